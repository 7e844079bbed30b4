/**
 * What a page that watches costs the coordinator: one run with two workers, in which stretches with a client that reads
 * all that the page reads alternate with stretches without. Prints the coordinator's CPU time a step of both, by
 * Linux's own count for its process, and their ratio.
 *
 *     npm run watch-cost -- --pairs 12 --seconds 4
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseFragment } from '../../../cluster/dashboard/messages.js';
import { workFolder } from '../../cli/run.js';
import { type Lantrain, startCoordinator, startWorker } from '../processes.js';
import { FakePage } from './helpers.js';

const { values } = parseArgs({
  options: { pairs: { type: 'string', default: '12' }, seconds: { type: 'string', default: '4' } },
});
const [pairs, stretchMs] = [Number(values.pairs), 1000 * Number(values.seconds)];

/** Of clock ticks, in which Linux counts. */
const TICK_MS = 10;

/** User and system time of a process with all its threads, those of the driver too. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // Counted after the name, which may hold spaces: utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return TICK_MS * (Number(fields[11]) + Number(fields[12]));
}

const folder = workFolder();
const started: Lantrain[] = [];
let step = 0;
let onStep = () => {};
try {
  const args = ['--preset', 'tiny', '--data', 'text.txt', '--steps', '100000', '--plain', '--out', 'watched'];
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
  const stretch = async () => {
    await nextStep();
    const [cpu, first, until] = [cpuMs(pid), step, performance.now() + stretchMs];
    while (performance.now() < until) await nextStep();
    return { cpu: cpuMs(pid) - cpu, steps: step - first };
  };

  while (step < 20) await nextStep();
  const totals = { with: { cpu: 0, steps: 0 }, without: { cpu: 0, steps: 0 } };
  const ratios: number[] = [];
  let bytes = 0;
  for (let pair = 0; pair < pairs; pair++) {
    const eachMs = { with: 0, without: 0 };
    // Which comes first alternates, so that a drift of the machine favours neither.
    for (const key of pair % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const)) {
      const page = key === 'with' ? await enter() : undefined;
      const { cpu, steps } = await stretch();
      bytes += page?.bytes ?? 0;
      page?.ws.close();
      await page?.closed;
      totals[key].cpu += cpu;
      totals[key].steps += steps;
      eachMs[key] = cpu / steps;
    }
    ratios.push(eachMs.with / eachMs.without);
  }
  const each = ({ cpu, steps }: { readonly cpu: number; readonly steps: number }) => cpu / steps;
  const sorted = ratios.toSorted((a, b) => a - b);
  const mean = ratios.reduce((a, b) => a + b, 0) / pairs;
  const error = Math.sqrt(ratios.reduce((sum, r) => sum + (r - mean) ** 2, 0) / (pairs - 1) / pairs);
  process.stdout.write(
    `${[
      `${pairs} pairs of ${stretchMs / 1000} s; ${totals.with.steps} steps with a watching client, ${totals.without.steps} without`,
      `it read ${Math.round(bytes / totals.with.steps)} bytes a step`,
      `the coordinator's CPU time a step: with ${each(totals.with).toFixed(2)} ms, without ${each(totals.without).toFixed(2)} ms`,
      `ratio: of the sums ${(each(totals.with) / each(totals.without)).toFixed(4)}, of pairs: median ${sorted[Math.floor(pairs / 2)].toFixed(4)}, mean ${mean.toFixed(4)} +- ${error.toFixed(4)}`,
    ].join('\n')}\n`,
  );
} finally {
  for (const process of started) {
    process.signal('SIGKILL');
    await process.ended;
  }
  folder.remove();
}
