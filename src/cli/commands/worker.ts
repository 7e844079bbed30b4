import { type Command, InvalidArgumentError } from 'commander';
import type { WorkOptions } from '../../../cluster/work.js';
import { type FoundCoordinator, LONGEST_NAME, type WorkEvent } from '../../../cluster/work-events.js';
import { authorityOf, parseJoinUrl } from '../../net/join-url.js';
import { pasteable } from '../../node/invocation.js';
import { formatCount } from '../../report/format.js';
import { LONGEST_WORDS, printableLine } from '../../util/printable.js';
import { amount } from '../numbers.js';
import { outputIsOptional, outputLost, printLine, remarkLine } from '../output.js';
import { askForToken, TOKEN_WAS_SHOWN } from '../token.js';

/** Anybody on the network can announce coordinators, so at most this many are shown. */
const MOST_FOUND = 16;

interface WorkerCommand extends WorkOptions {
  readonly quiet?: boolean;
}

function workerName(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('has no letter');
  if (text.length > LONGEST_NAME) throw new InvalidArgumentError(`is longer than ${LONGEST_NAME} characters`);
  return text;
}

/** Adds `lantrain worker`. */
export function addWorker(program: Command, finish: (code: number) => void): void {
  program
    .command('worker')
    .description('compute for a coordinator; without a URL, one is looked for on this network')
    .argument('[url]', 'the URL that the coordinator printed; its token by LANTRAIN_TOKEN, a file or standard input')
    .option('--token-file <file>', 'a file with the token and no more')
    .option('--name <name>', 'what the coordinator calls this worker (default: host and process)', workerName)
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--patience <seconds>', 'give up after so long without a coordinator; 0: never', amount(), 0)
    .option('--recompute', 'compute layers again in backward: less memory, more time, the same bits')
    .option('--quiet', 'print errors only')
    .option('--drag <ms>', 'sleep after each micro-batch, to try a slow worker', amount())
    .action(async (url: string | undefined, options: WorkerCommand) => finish(await worker({ ...options, url })));
}

async function worker({ quiet = false, ...options }: WorkerCommand): Promise<number> {
  endWithParent();
  const { work } = await import('../../../cluster/work.js');
  const { url, plain = false } = options;
  if (!quiet && url !== undefined && parseJoinUrl(url).token !== undefined) remarkLine(TOKEN_WAS_SHOWN);
  const say = (line: string) => {
    if (!quiet) printLine(line);
  };
  const leave = new AbortController();
  const onSignal = () => {
    if (leave.signal.aborted) process.exit(130);
    say('leaving');
    leave.abort();
  };
  const onEvent = (event: WorkEvent) => {
    for (const line of remarksOf(event, plain)) remarkLine(line);
    const line = lineOf(event);
    if (line !== undefined) say(line);
    if (event.event !== 'adapter') return;
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal);
    outputIsOptional((stream, why) => {
      if (stream === 'stdout') remarkLine(outputLost(stream, why));
    });
  };
  const { how } = await work(options, { onEvent, askForToken, signal: leave.signal });
  return how === 'left' ? 130 : 0;
}

/** A process with a channel to its parent ends with it. */
function endWithParent(): void {
  if (process.send === undefined) return;
  if (!process.connected) process.exit(130);
  process.on('disconnect', () => process.exit(130));
}

/** Lines before the worker has joined, which are printed even with `--quiet`. */
function remarksOf(event: WorkEvent, plain: boolean): readonly string[] {
  if (event.event === 'search') return ['looking for coordinators on this network ...'];
  return event.event === 'found' ? foundLines(event.coordinators, plain) : [];
}

/** A line for the one coordinator that was found, or a command for each of several. */
export function foundLines(found: readonly FoundCoordinator[], plain: boolean): readonly string[] {
  if (found.length === 1) return found.map(({ name, host, port }) => `found    ${name} at ${authorityOf(host, port)}`);
  const lines = found
    .slice(0, MOST_FOUND)
    .flatMap(({ name, url, plain: isPlain }) => [
      `found    ${name}`,
      `         ${pasteable(['worker', url, ...(plain || isPlain ? ['--plain'] : [])])}`,
    ]);
  return found.length > MOST_FOUND ? [...lines, `         and ${found.length - MOST_FOUND} more`] : lines;
}

function lineOf(event: WorkEvent): string | undefined {
  switch (event.event) {
    case 'adapter':
      return `adapter  ${event.adapter}`;
    case 'joined':
      return `joined   ${authorityOf(event.host, event.port)}`;
    case 'welcome':
      return `worker ${event.worker}, from step ${event.step} on`;
    case 'own-kernels':
      return "this adapter cannot run the plan's kernels and takes its own, whose bits differ";
    case 'kept-sums':
      return `this adapter takes slower kernels that keep their sums in order, because a fast one is not portable: ${event.difference}`;
    case 'not-portable':
      return `this adapter does not compute portable arithmetic, so its bits differ: ${event.difference}`;
    case 'compiling':
      return event.done >= event.total ? `compiled ${event.total} kernels` : undefined;
    case 'waiting':
      return `weights of step ${event.step} are in place`;
    case 'computed':
      return `step ${event.step}: ${event.tokens} tokens, ${formatCount((1000 * event.tokens) / event.milliseconds)} tokens/s`;
    case 'lost':
      return `${printableLine(event.reason, LONGEST_WORDS)}; trying again`;
    case 'end':
      return event.how === 'done' ? 'the run is done' : undefined;
    default:
      return undefined;
  }
}
