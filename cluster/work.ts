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
  /** The join URL that the coordinator printed. Default: looks for a coordinator on this network. */
  readonly url?: string;
  /** The coordinator's token, where the URL has none. Default: the environment variable LANTRAIN_TOKEN. */
  readonly token?: string;
  /** The path of a file that holds only the token. */
  readonly tokenFile?: string;
  /** The worker's name, at most 64 characters. Default: host name and process id. */
  readonly name?: string;
  /** Takes the first adapter whose name contains this text. Default: the system's choice. */
  readonly adapter?: string;
  /** Allows connections without TLS to other machines. Default false. */
  readonly plain?: boolean;
  /** Seconds without a coordinator after which it gives up; 0: never. Default 0. */
  readonly patience?: number;
  /** Computes layers again in the backward pass: less memory, more time, the same bits. Default false. */
  readonly recompute?: boolean;
  /** Milliseconds to sleep after each micro-batch, to simulate a slow worker. Default 0. */
  readonly drag?: number;
}

export interface WorkHooks {
  /** Called with each event, in order. */
  onEvent?(event: WorkEvent): void;
  /** Called for the token where neither the options nor the environment have one. */
  askForToken?(): Promise<string>;
  /** Aborted: the worker leaves, and others compute the rest of its assignments. */
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
 * Computes for a coordinator until the run is done. Reconnects when the connection breaks. The adapter's memory is free
 * afterwards.
 *
 * Throws errors that a retry does not fix: LT_USAGE_OPTION, LT_GPU_NONE and LT_GPU_MEMORY, and of the cluster
 * LT_CLUSTER_URL, _TOKEN, _FINGERPRINT, _PLAIN, _VERSION, _FOREIGN, _BIT_CLASS and _MALFORMED; LT_CLUSTER_CONNECT where
 * no coordinator is found, or after `patience`.
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
    case 'kept-sums':
    case 'not-portable':
      return { event: note.note, difference: note.difference };
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
