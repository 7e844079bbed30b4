import { hostname } from 'node:os';
import { EngineKeeper } from '../../cluster/coordinator/engine-keeper.js';
import { connect } from '../../cluster/transport/client.js';
import { type Discovered, discover } from '../../cluster/transport/discovery.js';
import { Membership, type MembershipNote } from '../../cluster/worker/membership.js';
import { LantrainError } from '../errors.js';
import { adapterTitle } from '../gpu/device.js';
import { authorityOf, formatJoinUrl, type JoinUrl, parseJoinUrl } from '../net/join-url.js';
import { pasteable } from '../node/invocation.js';
import { availableMemory } from '../node/memory.js';
import { openGpu } from '../node/open-gpu.js';
import { loadShaders } from '../node/shaders.js';
import { version } from '../node/version.js';
import { formatCount } from '../report/format.js';
import { LONGEST_WORDS, printableLine } from '../util/printable.js';
import { outputIsOptional, outputLost, printLine, remarkLine } from './output.js';
import { TOKEN_WAS_SHOWN, tokenOf } from './token.js';

export interface WorkerCommand {
  readonly url?: string;
  /** A file with the token, where the URL has none. */
  readonly tokenFile?: string;
  readonly name?: string;
  readonly adapter?: string;
  /** Plain ws to other machines. */
  readonly plain: boolean;
  /** Give up after so many seconds without a coordinator; 0: never. */
  readonly patience: number;
  readonly quiet: boolean;
  /** Computes layers again in backward. */
  readonly recompute: boolean;
  /** For tests: milliseconds to sleep after each micro-batch. */
  readonly drag?: number;
}

const DISCOVERY_MS = 3000;
/** Anybody on the network may say that there are coordinators: no more than this are shown. */
const MOST_FOUND = 16;

/** `lantrain worker`: computes for a coordinator until the run is done; comes back by itself when the line breaks. */
export async function work(command: WorkerCommand): Promise<number> {
  const url = command.url === undefined ? await find(command.plain) : parseJoinUrl(command.url);
  const token = await tokenOf({ token: url.token, tokenFile: command.tokenFile });
  const say = (line: string) => {
    if (!command.quiet) printLine(line);
  };
  if (url.token !== undefined && !command.quiet) remarkLine(TOKEN_WAS_SHOWN);
  const gpu = await openGpu(command.adapter);
  say(`adapter  ${adapterTitle(gpu.adapter)}`);
  const engines = new EngineKeeper(gpu, loadShaders(), {
    recompute: command.recompute,
    availableBytes: () => availableMemory(gpu.adapter),
  });
  const membership = new Membership({
    connect: () => connect(url, { token, version: version(), allowPlain: command.plain }),
    engines,
    name: command.name ?? `${hostname()}-${process.pid}`,
    drag: command.drag,
    patienceMs: 1000 * command.patience,
    onNote: (note) => {
      const line = note.note === 'joined' ? `joined   ${authorityOf(url.host, url.port)}` : lineOf(note);
      if (line) say(line);
    },
  });
  let leaving = false;
  const leave = () => {
    if (leaving) process.exit(130);
    leaving = true;
    say('leaving');
    membership.leave();
  };
  process.on('SIGINT', leave).on('SIGTERM', leave).on('SIGHUP', leave);
  outputIsOptional((stream, why) => {
    if (stream === 'stdout') remarkLine(outputLost(stream, why));
  });
  // Who was started with a channel to its parent does not outlive it.
  if (process.connected) process.on('disconnect', () => process.exit(130));
  if ((await membership.run()) === 'left') return 130;
  say('the run is done');
  return 0;
}

/** A coordinator on the LAN; its URL has no token. */
async function find(plain: boolean): Promise<JoinUrl> {
  remarkLine('looking for coordinators on this network ...');
  const { lines, url } = choose(await discover(DISCOVERY_MS), plain);
  for (const line of lines) remarkLine(line);
  return url();
}

/** Of those that were found, the only one; where there are several, a command for each, and `url` throws. */
export function choose(
  found: readonly Discovered[],
  plain: boolean,
): { readonly lines: readonly string[]; url(): JoinUrl } {
  const fail = (message: string) => () => {
    throw new LantrainError('LT_CLUSTER_CONNECT', message);
  };
  if (found.length === 1) {
    const [{ name, url }] = found;
    return { lines: [`found    ${name} at ${authorityOf(url.host, url.port)}`], url: () => url };
  }
  const example = pasteable(['worker', 'URL']);
  if (found.length === 0)
    return {
      lines: [],
      url: fail(
        `no coordinator answered on this network; paste the command that it printed, or pass its URL: ${example}`,
      ),
    };
  const more = found.length > MOST_FOUND ? [`         and ${found.length - MOST_FOUND} more`] : [];
  const lines = found
    .slice(0, MOST_FOUND)
    .flatMap(({ name, url }) => [
      `found    ${name}`,
      `         ${pasteable(['worker', formatJoinUrl(url), ...(plain || !url.secure ? ['--plain'] : [])])}`,
    ]);
  return {
    lines: [...lines, ...more],
    url: fail(
      `there are ${found.length} coordinators on this network; start one of the commands above, with the token of its ` +
        'line join in LANTRAIN_TOKEN, in a file (--token-file FILE) or on standard input',
    ),
  };
}

function lineOf(note: Exclude<MembershipNote, { readonly note: 'joined' }>): string | undefined {
  switch (note.note) {
    case 'welcome':
      return `worker ${note.worker}, from step ${note.step} on`;
    case 'own-kernels':
      return "this adapter cannot run the plan's kernels and takes its own, whose bits differ";
    case 'compiling':
      return note.done >= note.total ? `compiled ${note.total} kernels` : undefined;
    case 'ready':
      return `weights of step ${note.version} are in place`;
    case 'computed':
      return `step ${note.step}: ${note.tokens} tokens, ${formatCount((1000 * note.tokens) / note.milliseconds)} tokens/s`;
    case 'lost':
      return `${printableLine(note.reason, LONGEST_WORDS)}; trying again`;
  }
}
