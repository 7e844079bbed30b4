import { hostname } from 'node:os';
import { z } from 'zod';
import { LantrainError } from '../src/errors.js';
import { adapterTitle } from '../src/gpu/device.js';
import { formatJoinUrl, type JoinUrl, parseJoinUrl } from '../src/net/join-url.js';
import { workerToken } from '../src/net/worker-token.js';
import { pasteable } from '../src/node/invocation.js';
import { availableMemory } from '../src/node/memory.js';
import { openGpu } from '../src/node/open-gpu.js';
import { loadShaders } from '../src/node/shaders.js';
import { version } from '../src/node/version.js';
import { validate } from '../src/util/validate.js';
import { connect } from './transport/client.js';
import { type Discovered, discover } from './transport/discovery.js';
import { type FoundCoordinator, LONGEST_NAME, type WorkEvent, type WorkResult } from './work-events.js';
import { EngineCache } from './worker/engine-cache.js';
import { type SessionNote, WorkerSession } from './worker/worker-session.js';

export interface WorkOptions {
  /** The URL that the coordinator printed. Without one, the worker searches this network. */
  readonly url?: string;
  /** The coordinator's token, if the URL has none. Default: the environment variable LANTRAIN_TOKEN. */
  readonly token?: string;
  /** A file that holds only the token. */
  readonly tokenFile?: string;
  /** The worker's name in the coordinator's lists. Default: host name and process id. */
  readonly name?: string;
  /** The GPU whose name contains this. */
  readonly adapter?: string;
  /** Allows ws without TLS to other machines. */
  readonly plain?: boolean;
  /** Seconds without a coordinator before it gives up; 0: never. */
  readonly patience?: number;
  /** Computes layers again in backward: less memory, more time, the same bits. */
  readonly recompute?: boolean;
  /** Milliseconds to sleep after each micro-batch, to try a slow worker. */
  readonly drag?: number;
}

export interface WorkHooks {
  /** Called with each event as it happens, in order. */
  onEvent?(event: WorkEvent): void;
  /** Called for the token if neither options nor environment have one. */
  askForToken?(): Promise<string>;
  /** On abort the worker leaves in good order, and others compute its assignments. */
  readonly signal?: AbortSignal;
}

const DISCOVERY_MS = 3000;

const Options = z.strictObject({
  url: z.string().optional(),
  token: z.string().optional(),
  tokenFile: z.string().min(1).optional(),
  name: z.string().regex(/\S/, 'has no letter').max(LONGEST_NAME).optional(),
  adapter: z.string().min(1).optional(),
  plain: z.boolean().default(false),
  patience: z.number().min(0).default(0),
  recompute: z.boolean().default(false),
  drag: z.number().min(0).optional(),
});

/**
 * Computes for a coordinator until the run is done, and reconnects after a lost connection. Frees the adapter's memory
 * at the end.
 *
 * Throws errors that a retry cannot fix: LT_USAGE_OPTION, LT_GPU_NONE, LT_GPU_MEMORY, and LT_CLUSTER_URL, _TOKEN,
 * _FINGERPRINT, _PLAIN, _VERSION, _FOREIGN, _BIT_CLASS or _MALFORMED. Throws LT_CLUSTER_CONNECT if no coordinator is
 * found, or none is reached within `patience`.
 */
export async function work(options: WorkOptions = {}, hooks: WorkHooks = {}): Promise<WorkResult> {
  const checked = validate(Options, options);
  if (!checked.ok) throw new LantrainError('LT_USAGE_OPTION', `worker: ${checked.wrong}`);
  const { token: given, tokenFile, name, adapter, plain, patience, recompute, drag } = checked.data;
  const { signal } = hooks;
  let tokens = 0;
  const tell = (event: WorkEvent) => hooks.onEvent?.(event);
  const end = (how: WorkResult['how']): WorkResult => {
    tell({ event: 'end', how, tokens });
    return { how, tokens };
  };
  const url = checked.data.url === undefined ? await find(tell) : parseJoinUrl(checked.data.url);
  const token = await workerToken({ url: url.token, token: given, file: tokenFile, ask: hooks.askForToken });
  if (signal?.aborted) return end('left');
  const gpu = await openGpu(adapter);
  try {
    tell({ event: 'adapter', adapter: adapterTitle(gpu.adapter), software: gpu.adapter.software });
    const session = new WorkerSession({
      connect: () => connect(url, { token, version: version(), allowPlain: plain }),
      engines: new EngineCache(gpu, loadShaders(), { recompute, availableBytes: () => availableMemory(gpu.adapter) }),
      name: name ?? `${hostname()}-${process.pid}`,
      drag,
      patienceMs: 1000 * patience,
      onNote: (note) => {
        if (note.note === 'computed') tokens += note.tokens;
        tell(workEventOf(note, url));
      },
    });
    const leave = () => session.leave();
    if (signal?.aborted) leave();
    signal?.addEventListener('abort', leave, { once: true });
    try {
      return end(await session.run());
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  } finally {
    gpu.device.destroy();
  }
}

function workEventOf(note: SessionNote, { host, port }: JoinUrl): WorkEvent {
  switch (note.note) {
    case 'joined':
      return { event: 'joined', host, port };
    case 'welcome':
      return { event: 'welcome', worker: note.worker, step: note.step };
    case 'own-kernels':
      return { event: 'own-kernels' };
    case 'compiling':
      return { event: 'compiling', done: note.done, total: note.total };
    case 'ready':
      return { event: 'waiting', step: note.version };
    case 'computed': {
      const { step, tokens, milliseconds, share } = note;
      return { event: 'computed', step, tokens, milliseconds, share };
    }
    case 'lost':
      return { event: 'lost', reason: note.reason };
  }
}

/** The only coordinator on the LAN; its URL has no token. Throws LT_CLUSTER_CONNECT unless there is exactly one. */
async function find(tell: (event: WorkEvent) => void): Promise<JoinUrl> {
  tell({ event: 'search' });
  const found = await discover(DISCOVERY_MS);
  tell({ event: 'found', coordinators: found.map(shown) });
  return onlyOne(found);
}

/** A discovered coordinator in the form that events have. */
export function shown({ name, version, url }: Discovered): FoundCoordinator {
  const { host, port, secure } = url;
  return { name, version, url: formatJoinUrl(url), host, port, plain: !secure };
}

/** Throws LT_CLUSTER_CONNECT unless there is exactly one. */
export function onlyOne(found: readonly Pick<Discovered, 'url'>[]): JoinUrl {
  if (found.length === 1) return found[0].url;
  const message =
    found.length === 0
      ? 'no coordinator answered on this network; paste the command that it printed, or pass its URL: ' +
        pasteable(['worker', 'URL'])
      : `there are ${found.length} coordinators on this network; choose one by its URL, with the token of its ` +
        'line join in LANTRAIN_TOKEN, in a file (--token-file FILE) or on standard input';
  throw new LantrainError('LT_CLUSTER_CONNECT', message);
}
