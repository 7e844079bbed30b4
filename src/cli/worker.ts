import { hostname } from 'node:os';
import { readToken, tokenFromEnvironment } from '../../cluster/access.js';
import { EngineKeeper } from '../../cluster/engine-keeper.js';
import { type JoinUrl, parseJoinUrl } from '../../cluster/join-url.js';
import { Membership, type MembershipNote } from '../../cluster/membership.js';
import { connect } from '../../cluster/transport/client.js';
import { discover } from '../../cluster/transport/discovery.js';
import { LantrainError } from '../errors.js';
import { adapterTitle } from '../gpu/device.js';
import { formatCount } from '../report/format.js';
import { pasteable } from './invocation.js';
import { availableMemory } from './memory.js';
import { openGpu } from './open-gpu.js';
import { outputIsOptional, outputLost } from './output.js';
import { loadShaders } from './shaders.js';
import { version } from './version.js';

export interface WorkerCommand {
  readonly url?: string;
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

/** `lantrain worker`: computes for a coordinator until the run is done; comes back by itself when the line breaks. */
export async function work(command: WorkerCommand): Promise<number> {
  const url = command.url === undefined ? await find() : parseJoinUrl(command.url);
  const token = url.token ?? tokenFromEnvironment() ?? (await askForToken());
  const say = (line: string) => {
    if (!command.quiet) process.stdout.write(`${line}\n`);
  };
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
      const line = note.note === 'joined' ? `joined   ${url.host}:${url.port}` : lineOf(note);
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
    if (stream === 'stdout') process.stderr.write(`${outputLost(stream, why)}\n`);
  });
  // Who was started with a channel to its parent does not outlive it.
  if (process.connected) process.on('disconnect', () => process.exit(130));
  if ((await membership.run()) === 'left') return 130;
  say('the run is done');
  return 0;
}

/** From whoever sits here or pipes it in: a URL that was found, or is to be seen by others, has none. */
async function askForToken(): Promise<string> {
  if (process.stdin.isTTY) process.stderr.write('token (LANTRAIN_TOKEN is not set): ');
  try {
    return await readToken(process.stdin);
  } catch (cause) {
    throw new LantrainError(
      'LT_CLUSTER_TOKEN',
      'no token: set LANTRAIN_TOKEN, give it on standard input, or pass the whole join URL that the coordinator printed',
      { cause },
    );
  }
}

/** A coordinator on the LAN; its URL has no token. */
async function find(): Promise<JoinUrl> {
  process.stderr.write('looking for coordinators on this network ...\n');
  const found = await discover(DISCOVERY_MS);
  for (const { name, url } of found) process.stderr.write(`found    ${name} at ${url.host}:${url.port}\n`);
  if (found.length > 1)
    throw new LantrainError(
      'LT_CLUSTER_CONNECT',
      `there are ${found.length} coordinators on this network; pass the join URL of the one you mean: ${pasteable(['worker', 'URL'])}`,
    );
  if (found.length === 0)
    throw new LantrainError(
      'LT_CLUSTER_CONNECT',
      `no coordinator answered on this network; pass the join URL that it printed: ${pasteable(['worker', 'URL'])}`,
    );
  return found[0].url;
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
      return `${note.reason}; trying again`;
  }
}
