/**
 * The cost of a watching page for the coordinator: one run with two workers, in which periods with a client that reads
 * everything the page reads alternate with periods without. Prints the additional CPU time a step with the client, by
 * Linux's accounting.
 *
 *     npm run watch-cost -- --pairs 12 --seconds 4
 */
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseFragment } from '../../src/watch/messages.js';
import { workFolder } from '../cli/run.js';
import { type Lantrain, startCoordinator, startWorker } from '../cluster/processes.js';
import { FakePage } from './helpers.js';

const { values } = parseArgs({
  options: { pairs: { type: 'string', default: '12' }, seconds: { type: 'string', default: '4' } },
});
const [pairs, stretchMs] = [Number(values.pairs), 1000 * Number(values.seconds)];

/** Steps only: rare events would occur in some periods only. */
const QUIET = ['--eval-every', '0', '--sample-tokens', '0', '--checkpoint-every', '100000'];

interface Cpu {
  readonly all: number;
  /** CPU time of the coordinator's JavaScript thread, which does everything for pages. */
  readonly main: number;
}

/** CPU milliseconds of a process's threads, including the driver's. */
function cpuOf(pid: number): Cpu {
  const ms = (thread: string) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  const threads = readdirSync(`/proc/${pid}/task`);
  return { all: threads.reduce((sum, thread) => sum + ms(thread), 0), main: ms(String(pid)) };
}

const percents = (x: number) => `${x.toFixed(2)} %`;
const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
/** Standard error of the mean. */
const error = (xs: readonly number[]) => Math.sqrt(mean(xs.map((x) => (x - mean(xs)) ** 2)) / (xs.length - 1));

const folder = workFolder();
const started: Lantrain[] = [];
let step = 0;
let onStep = () => {};
try {
  const args = ['--preset', 'tiny', '--data', 'text.txt', '--steps', '100000', ...QUIET, '--plain', '--out', 'watched'];
  const { coordinator, url } = await startCoordinator(args, folder.path, (event) => {
    if (event.event !== 'step') return;
    step = Number(event.step);
    onStep();
  });
  started.push(coordinator);
  for (const name of ['a', 'b']) started.push(startWorker(url, name, folder.path, '--plain'));
  const link = new URL(await coordinator.printed(/watch {4}(http\S+)/));
  const enter = () => FakePage.enter(Number(link.port), parseFragment(link.hash));
  const { pid = 0 } = coordinator.child;
  const nextStep = () =>
    new Promise<void>((resolve) => {
      onStep = resolve;
    });

  /** CPU time a step, from the end of one step to the end of another. */
  const stretch = async (): Promise<Cpu> => {
    await nextStep();
    const [before, first, until] = [cpuOf(pid), step, performance.now() + stretchMs];
    while (performance.now() < until) await nextStep();
    const after = cpuOf(pid);
    const steps = step - first;
    return { all: (after.all - before.all) / steps, main: (after.main - before.main) / steps };
  };

  while (step < 20) await nextStep();
  const [watched, alone]: [Cpu[], Cpu[]] = [[], []];
  for (let pair = 0; pair < pairs; pair++) {
    // The order alternates, so that a drift of the machine favours neither.
    for (const isWatched of pair % 2 === 0 ? [false, true] : [true, false]) {
      const page = isWatched ? await enter() : undefined;
      (isWatched ? watched : alone).push(await stretch());
      if (page?.messages.length === 0) throw new Error('the client has read nothing');
      page?.ws.close();
      await page?.closed;
    }
  }
  const eachMs = mean(alone.map(({ all }) => all));
  const print = (line: string) => process.stdout.write(`${line}\n`);
  print(
    `${pairs} pairs of ${stretchMs / 1000} s, ${step} steps; CPU time a step without a page ${eachMs.toFixed(2)} ms`,
  );
  for (const [key, what] of [
    ['all', 'of the process'],
    ['main', "of its main thread, where a page's cost arises"],
  ] as const) {
    const more = watched.map((cpu, i) => (100 * (cpu[key] - alone[i][key])) / eachMs);
    const median = more.toSorted((a, b) => a - b)[Math.floor(pairs / 2)];
    print(
      `with a page, CPU time ${what}: ${percents(mean(more))} of that more, +- ${percents(error(more))}; median ${percents(median)}`,
    );
  }
} finally {
  for (const process of started) {
    process.signal('SIGKILL');
    await process.ended;
  }
  folder.remove();
}
