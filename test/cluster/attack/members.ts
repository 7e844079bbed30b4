/**
 * Attacks of who holds the join token. Whoever must be admitted is a real `Worker` with a real engine, whose connection
 * is bent: the probes are answered as the protocol asks, and then comes what the attack is about.
 */
import type { FrameContext } from '../../../cluster/frame.js';
import {
  type CoordinatorMessage,
  decodeFrame,
  encodeFrame,
  MAX_FRAME_BYTES,
  MicroBatchSet,
  type Welcome,
  type WorkerMessage,
} from '../../../cluster/protocol.js';
import { Worker } from '../../../cluster/worker.js';
import { LantrainError } from '../../../src/errors.js';
import { packLoss, packSums, unpackSums } from '../../../src/train/blocks.js';
import { BentConnection, type Hooks } from './bent.js';
import { type Entered, enterAs, flood, over, pause, type Seat } from './seat.js';

/** Ends with the attack; throws why a connection ended before. */
export type Attack = (seat: Seat) => Promise<void>;

const MIB = 2 ** 20;
const POOL_BYTES = 256 * MIB;
/** Wants of a connection that may wait. */
const WANTS = 8;
/** Milliseconds that a worker which computes sleeps after each micro-batch, as the honest one does. */
const DRAG_MS = 12;

interface Admitted extends Entered {
  /** Why it ended. */
  readonly ended: Promise<LantrainError>;
}

/** A member that has shown its bit class and has the weights. */
async function admitted(seat: Seat, hooks: Hooks, name = seat.name): Promise<Admitted> {
  const engines = await seat.engines();
  const entered = await enterAs(seat);
  let ready = () => {};
  const isReady = new Promise<void>((go) => {
    ready = go;
  });
  const worker = new Worker(new BentConnection(entered.connection, hooks), {
    engines,
    name,
    drag: DRAG_MS,
    onNote: ({ note }) => {
      if (note === 'ready') ready();
    },
  });
  const ended = worker.run();
  await Promise.race([isReady, untilEnded(seat, ended)]);
  seat.tell({ told: 'begun' });
  return { ...entered, ended };
}

/** Resolves when the attack is over; throws why the connection ended before. */
function untilEnded(seat: Seat, ended: Promise<LantrainError>): Promise<void> {
  return Promise.race([over(seat), ended.then((error) => Promise.reject(error))]);
}

/** Is dealt work and answers it by `hooks`. */
const member =
  (hooks: (seat: Seat) => Hooks): Attack =>
  async (seat) => {
    const { ended } = await admitted(seat, hooks(seat));
    await untilEnded(seat, ended);
  };

/** Says its name, and is told of the run, without showing a bit class. */
async function introduced(
  seat: Seat,
): Promise<Entered & { readonly welcome: Welcome; readonly ended: Promise<LantrainError> }> {
  const entered = await enterAs(seat);
  const { connection } = entered;
  const ended = new Promise<LantrainError>((end) => {
    connection.onClose = end;
  });
  const welcomed = new Promise<Welcome>((welcome) => {
    connection.onControl = { welcome, ...DEAF };
  });
  connection.send({ type: 'join', name: seat.name, adapter: 'none', software: true });
  const welcome = await Promise.race([welcomed, untilEnded(seat, ended)]);
  if (welcome === undefined) throw seat.signal.reason;
  return { ...entered, welcome, ended };
}

const ignore = () => {};
/** Whoever has these takes what comes and does nothing. */
const DEAF = { probe: ignore, stop: ignore, error: ignore, pause: ignore, weights: ignore, commit: ignore };

const swallowWork = ({ type }: CoordinatorMessage) => type !== 'assign' && type !== 'evaluate';

/** Members of one process share an engine, which none of them uses: what it holds is nobody's affair. */
const noMismatch = ({ type }: WorkerMessage) => type !== 'mismatch';

function bucketOf(message: Uint8Array, frames: FrameContext): number {
  return decodeFrame(message, { ...frames, kinds: ['contribution'] }).header.bucket;
}

/** Another gradient than the computed one: same length, well formed, and the same by everybody who lies. */
export function lieIn(message: Uint8Array, frames: FrameContext): Uint8Array {
  const { header, payload } = decodeFrame(message, { ...frames, kinds: ['contribution'] });
  if (header.kind !== 'contribution' || header.bucket === frames.buckets - 1) return message;
  const values = new Uint32Array(payload.buffer, payload.byteOffset, 2)[1];
  const { low, high } = unpackSums(payload, values);
  low[0] = (low[0] ^ (2 ** 28)) >>> 0;
  return encodeFrame(header, packSums(low, high));
}

const refusal = (message: CoordinatorMessage, send: Entered['connection']): boolean => {
  if (message.type !== 'assign') return swallowWork(message);
  const { assignment, microBatches } = message;
  const [{ microBatch }] = microBatches;
  send.send({ type: 'refuse', assignment, microBatch, status: 1, what: 'a gradient' });
  return false;
};

/** Halved each time the coordinator says that it is too much. */
let wantedBytes = POOL_BYTES / WANTS;

export const MEMBERS = {
  /** Asks for the whole receive pool, and sends a stale frame every 10 s. */
  credit: async (seat) => {
    const { connection, ws, welcome, ended } = await introduced(seat);
    const { incarnation, buckets } = welcome;
    const address = { incarnation, assignment: 1, step: 1, bucket: buckets - 1 };
    const stale = encodeFrame({ kind: 'contribution', ...address, microBatches: MicroBatchSet.of([0]) }, packLoss(1n));
    const ask = () => {
      for (let i = 0; i < WANTS; i++) connection.send({ type: 'want', bytes: wantedBytes });
    };
    ask();
    seat.tell({ told: 'begun' });
    const timer = setInterval(() => ws.send(stale), 10_000);
    try {
      await untilEnded(seat, ended);
    } catch (error) {
      if (error instanceof LantrainError && error.code === 'LT_CLUSTER_CREDIT')
        wantedBytes = Math.max(4096, wantedBytes / 2);
      throw error;
    } finally {
      clearInterval(timer);
    }
  },

  /** Answers pings and never works. */
  stall: member(() => ({ arrives: swallowWork })),

  /** Says that it has begun, and never ends. */
  'stall-begun': member(() => ({
    arrives: (message, connection) => {
      if (message.type === 'assign') {
        const { assignment, microBatches } = message;
        connection.send({ type: 'progress', assignment, begun: microBatches.length, done: 0 });
      }
      return swallowWork(message);
    },
  })),

  /** Computes, and sends all but the loss. */
  'stall-part': member(() => ({
    frame: (message, frames) => (bucketOf(message, frames) === frames.buckets - 1 ? undefined : message),
  })),

  /** Eight connections of one address never work. */
  'stall-many': async (seat) => {
    const all: Admitted[] = [];
    const swallow = { arrives: swallowWork, leaves: noMismatch };
    for (let i = 1; i <= 8; i++) all.push(await admitted(seat, swallow, `${seat.name}-${i}`));
    await Promise.race(all.map(({ ended }) => untilEnded(seat, ended)));
  },

  /** Works for four steps, then never again until its work is taken away; then it comes back. */
  'stall-settled': async (seat) => {
    const steps = new Set<number>();
    const { ended } = await admitted(seat, {
      arrives: (message, connection) => {
        if (message.type === 'fence' && steps.size > 4) connection.close();
        if (message.type !== 'assign') return true;
        steps.add(message.step);
        return steps.size <= 4;
      },
    });
    await untilEnded(seat, ended);
  },

  /** Reads nothing once it is admitted. */
  deaf: async (seat) => {
    const { ws, ended } = await admitted(seat, { arrives: swallowWork });
    ws.pause();
    await untilEnded(seat, ended);
  },

  /** Answers pings, never works, and comes back under a new name after each fence. */
  'stall-rename': member(() => ({
    arrives: (message, connection) => {
      if (message.type === 'fence') connection.close();
      return swallowWork(message);
    },
  })),

  /** Hands everything back. */
  'hand-back': member(() => ({
    arrives: (message, connection) => {
      if (!swallowWork(message) && 'microBatches' in message && 'assignment' in message) {
        const microBatches = (message.microBatches as { microBatch: number }[]).map((data) => data.microBatch);
        connection.send({ type: 'handedBack', assignment: message.assignment, microBatches });
      }
      return swallowWork(message);
    },
  })),

  /** Pings by message and never reads. */
  'ping-flood': async (seat) => {
    const { connection, ws, socket } = await introduced(seat);
    ws.pause();
    seat.tell({ told: 'begun' });
    await flood(seat, socket, () => connection.send({ type: 'ping', at: 1 }));
    if (!seat.signal.aborted) throw new Error('hung up');
  },

  /** Pings of the WebSocket protocol, with all they may carry, and never reads. */
  'protocol-pings': async (seat) => {
    const { ws, socket } = await introduced(seat);
    ws.pause();
    seat.tell({ told: 'begun' });
    const payload = Buffer.alloc(125, 1);
    await flood(seat, socket, () => ws.ping(payload));
    if (!seat.signal.aborted) throw new Error('hung up');
  },

  /** Joins and leaves in a loop, four at once. */
  rejoin: async (seat) => {
    seat.tell({ told: 'begun' });
    const loop = async () => {
      for (let i = 0; !seat.signal.aborted; i++) {
        const { connection, socket } = await introduced(seat);
        connection.send({ type: 'leave', reason: `again ${i}` });
        connection.close();
        socket.destroy();
      }
    };
    await Promise.all([loop(), loop(), loop(), loop()]);
  },

  /** Says that all weights came out wrong, again and again. */
  mismatch: async (seat) => {
    let version = 0;
    const { connection, socket, ended } = await admitted(seat, {
      arrives: (message) => {
        if (message.type === 'commit') version = message.step;
        return swallowWork(message);
      },
    });
    const buckets = Array.from({ length: (connection.frames?.buckets ?? 2) - 1 }, (_, i) => i);
    await flood(seat, socket, () => connection.send({ type: 'mismatch', version, buckets }));
    await untilEnded(seat, ended);
  },

  /** Messages that never end, as large as they may be, on twelve connections. */
  'half-message': async (seat) => {
    const hold = async () => {
      const { ws, ended } = await introduced(seat);
      const part = Buffer.alloc(MIB / 4, 0x4c);
      const most = MAX_FRAME_BYTES - 2 * MIB;
      for (let sent = 0; sent < most && ws.readyState === ws.OPEN; sent += part.length) {
        ws.send(part, { fin: false });
        await pause(10);
      }
      seat.tell({ told: 'begun' });
      const drip = setInterval(() => ws.readyState === ws.OPEN && ws.send(Buffer.alloc(1), { fin: false }), 500);
      await untilEnded(seat, ended).finally(() => clearInterval(drip));
    };
    await Promise.all(Array.from({ length: 12 }, hold));
  },

  /** Frames of 12 MB without credit, on four connections. */
  'no-credit': async (seat) => {
    const send = async () => {
      const { ws, ended } = await introduced(seat);
      seat.tell({ told: 'begun' });
      ws.send(Buffer.alloc(Math.min(12 * MIB, MAX_FRAME_BYTES), 0x4c));
      await untilEnded(seat, ended);
    };
    await Promise.all(Array.from({ length: 4 }, send));
  },

  /** Refuses every micro-batch. */
  refuse: member(() => ({ arrives: refusal })),

  /** Two connections of one address do. */
  'refuse-two': async (seat) => {
    const first = await admitted(seat, { arrives: refusal, leaves: noMismatch });
    const second = await admitted(seat, { arrives: refusal, leaves: noMismatch }, `${seat.name}-second`);
    await Promise.race([untilEnded(seat, first.ended), untilEnded(seat, second.ended)]);
  },

  /** Says of every evaluation that its loss is not finite, and works otherwise. */
  'refuse-evaluation': member(() => ({
    arrives: (message, connection) => {
      if (message.type !== 'evaluate') return true;
      const { assignment } = message;
      connection.send({ type: 'evaluated', assignment, low: 0, high: 0, tokens: 0, finite: false });
      return false;
    },
  })),

  /** Computes, and sends wrong gradients. */
  lie: member(({ tell }) => ({
    frame: (message, frames) => {
      const { header } = decodeFrame(message, { ...frames, kinds: ['contribution'] });
      if (header.bucket === 0 && header.kind === 'contribution')
        tell({ told: 'lied', assignment: header.assignment, step: header.step });
      return lieIn(message, frames);
    },
  })),

  /** Claims to have computed enormous numbers of tokens. */
  stats: async (seat) => {
    const { connection, ended, welcome } = await introduced(seat);
    seat.tell({ told: 'begun' });
    const tokens = 4_000_000_000;
    const claim = () =>
      connection.isOpen &&
      connection.send({
        type: 'stats',
        step: welcome.step,
        computeMs: 1e-3,
        uploadMs: 0,
        downloadMs: 0,
        waitMs: 0,
        tokens,
      });
    const timer = setInterval(claim, 100);
    await untilEnded(seat, ended).finally(() => clearInterval(timer));
  },

  /** Works, and answers an evaluation by a frame with a loss of its own. */
  'evaluate-frame': member(() => ({
    arrives: (message, connection) => {
      if (message.type !== 'evaluate' || message.version === 0) return true;
      const { assignment, version: step } = message;
      const { frames } = connection;
      if (!frames) return true;
      const microBatches = MicroBatchSet.of(message.microBatches.map((data) => data.microBatch));
      const address = { incarnation: frames.incarnation, assignment, step, bucket: frames.buckets - 1 };
      const lie = encodeFrame({ kind: 'contribution', ...address, microBatches }, packLoss(2n ** 45n));
      connection.sendFrame(lie).catch(() => {});
      return false;
    },
  })),

  /** Shows the bit class that it was found to have by another coordinator of the same run, without computing anything. */
  class: async (seat) => {
    const hashes = new Map<string, string>();
    const first = await admitted(
      { ...seat, target: seat.teacher ?? seat.target, tell: () => {} },
      {
        arrives: swallowWork,
        leaves: (message) => {
          if (message.type === 'hashes') hashes.set(message.probe, message.hash);
          return true;
        },
      },
      `${seat.name}-computed`,
    );
    first.connection.close();
    await untilEnded(seat, first.ended).catch(() => {});
    const { connection } = await enterAs(seat);
    const ended = new Promise<LantrainError>((end) => {
      connection.onClose = end;
    });
    connection.onControl = {
      ...DEAF,
      welcome: ignore,
      assign: ignore,
      fence: ignore,
      reclaim: ignore,
      evaluate: ignore,
      probe: ({ probe }) => connection.send({ type: 'hashes', probe, hash: hashes.get(probe) ?? '' }),
    };
    connection.frames = {
      incarnation: 2 ** 31,
      buckets: 2 ** 20,
      microBatches: 1024,
      kinds: ['weights-whole', 'weights-difference'],
    };
    connection.send({ type: 'join', name: `${seat.name}-copied`, adapter: 'none', software: true });
    seat.tell({ told: 'begun' });
    await untilEnded(seat, ended);
  },
} as const satisfies Record<string, Attack>;
