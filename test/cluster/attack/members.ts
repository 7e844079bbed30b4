/**
 * Attacks by members that do not do their assignments, or do them wrong. Each is a real `Worker` with a real engine and
 * a hooked connection: it answers the probes correctly, then the attack begins.
 */

import { packLoss, packSums } from '../../../cluster/exchange/blocks.js';
import { decodeFrame, encodeFrame, type FrameContext } from '../../../cluster/protocol/frame.js';
import {
  type CoordinatorMessage,
  onlyFromCoordinator,
  type WorkerMessage,
} from '../../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../../cluster/round/sets.js';
import type { LantrainError } from '../../../src/errors.js';
import { unpackSums } from '../../reference/blocks.js';
import { type Admitted, type Attack, admitted, DEAF, ignore, untilEnded } from './admission.js';
import { type AttackContext, type Authenticated, connectAs, flood } from './attack-context.js';
import type { Hooks } from './hooked-connection.js';

/** An attack by a member that answers its assignments by `hooks`. */
const member =
  (hooks: (context: AttackContext) => Hooks): Attack =>
  async (context) => {
    const { ended } = await admitted(context, hooks(context));
    await untilEnded(context, ended);
  };

const swallowWork = ({ type }: CoordinatorMessage) => type !== 'assign' && type !== 'evaluate';

/** Members of one process share an engine that none uses, so they suppress complaints about its weights. */
const noMismatch = ({ type }: WorkerMessage) => type !== 'mismatch';

function bucketOf(message: Uint8Array, frames: FrameContext): number {
  return decodeFrame(message, { ...frames, kinds: ['contribution'] }).header.bucket;
}

/** Changes the gradient in a message: same length, well formed, and the same change for every liar. */
export function lieIn(message: Uint8Array, frames: FrameContext): Uint8Array {
  const { header, payload } = decodeFrame(message, { ...frames, kinds: ['contribution'] });
  if (header.kind !== 'contribution' || header.bucket === frames.buckets - 1) return message;
  const values = new Uint32Array(payload.buffer, payload.byteOffset, 2)[1];
  const { low, high } = unpackSums(payload, values);
  low[0] = (low[0] ^ (2 ** 28)) >>> 0;
  return encodeFrame(header, packSums(low, high));
}

const refusal = (message: CoordinatorMessage, send: Authenticated['connection']): boolean => {
  if (message.type !== 'assign') return swallowWork(message);
  const { assignment, microBatches } = message;
  const [{ microBatch }] = microBatches;
  send.send({ type: 'refused', assignment, microBatch, what: 'a gradient' });
  return false;
};

export const MEMBERS = {
  /** Answers pings and never works. */
  stall: member(() => ({ arrives: swallowWork })),

  /** Reports that it has begun, and never ends. */
  'stall-begun': member(() => ({
    arrives: (message, connection) => {
      if (message.type === 'assign') {
        const { assignment, microBatches } = message;
        connection.send({ type: 'progress', assignment, begun: microBatches.length, done: 0 });
      }
      return swallowWork(message);
    },
  })),

  /** Computes, and sends everything except the loss. */
  'stall-part': member(() => ({
    frame: (message, frames) => (bucketOf(message, frames) === frames.buckets - 1 ? undefined : message),
  })),

  /** Eight connections of one address never work. */
  'stall-many': async (context) => {
    const all: Admitted[] = [];
    const swallow = { arrives: swallowWork, leaves: noMismatch };
    for (let i = 1; i <= 8; i++) all.push(await admitted(context, swallow, `${context.name}-${i}`));
    await Promise.race(all.map(({ ended }) => untilEnded(context, ended)));
  },

  /** Works for four steps, then never again until its work is taken away; then it comes back. */
  'stall-settled': async (context) => {
    const steps = new Set<number>();
    const { ended } = await admitted(context, {
      arrives: (message, connection) => {
        if (message.type === 'revoke' && steps.size > 4) connection.close();
        if (message.type !== 'assign') return true;
        steps.add(message.step);
        return steps.size <= 4;
      },
    });
    await untilEnded(context, ended);
  },

  /** Reads nothing once it is admitted. */
  deaf: async (context) => {
    const { ws, ended } = await admitted(context, { arrives: swallowWork });
    ws.pause();
    await untilEnded(context, ended);
  },

  /** Answers pings, never works, and rejoins under a new name each time its work is revoked. */
  'stall-rename': member(() => ({
    arrives: (message, connection) => {
      if (message.type === 'revoke') connection.close();
      return swallowWork(message);
    },
  })),

  /** Hands back every assignment. */
  'hand-back': member(() => ({
    arrives: (message, connection) => {
      if (!swallowWork(message) && 'microBatches' in message && 'assignment' in message) {
        const microBatches = (message.microBatches as { microBatch: number }[]).map((data) => data.microBatch);
        connection.send({ type: 'handed-back', assignment: message.assignment, microBatches });
      }
      return swallowWork(message);
    },
  })),

  /** Reports that all weights are wrong, again and again. */
  mismatch: async (context) => {
    const { connection, socket, ended } = await admitted(context, { arrives: swallowWork });
    const buckets = Array.from({ length: (connection.frames?.buckets ?? 2) - 1 }, (_, i) => i);
    await flood(context, socket, () => connection.send({ type: 'mismatch', buckets }));
    await untilEnded(context, ended);
  },

  /** Refuses every micro-batch. */
  refuse: member(() => ({ arrives: refusal })),

  /** Two connections of one address refuse every micro-batch. */
  'refuse-two': async (context) => {
    const first = await admitted(context, { arrives: refusal, leaves: noMismatch });
    const second = await admitted(context, { arrives: refusal, leaves: noMismatch }, `${context.name}-second`);
    await Promise.race([untilEnded(context, first.ended), untilEnded(context, second.ended)]);
  },

  /** Reports a loss that is not finite for every evaluation, and works otherwise. */
  'refuse-evaluation': member(() => ({
    arrives: (message, connection) => {
      if (message.type !== 'evaluate') return true;
      const { assignment } = message;
      const microBatches = message.microBatches.map((data) => data.microBatch);
      connection.send({ type: 'evaluated', assignment, microBatches, low: 0, high: 0, finite: false });
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

  /** Works, and reports huge computing times. */
  stats: member(() => ({
    leaves: (message, connection) => {
      if (message.type !== 'stats') return true;
      connection.send({ ...message, computeMs: 1e12 });
      return false;
    },
  })),

  /** Works, and answers an evaluation with a frame that holds an invented loss. */
  'evaluate-frame': member(() => ({
    arrives: (message, connection) => {
      if (message.type !== 'evaluate' || message.version === 0) return true;
      const { assignment, version: step } = message;
      const { frames } = connection;
      if (!frames) return true;
      const microBatches = microBatchSet(message.microBatches.map((data) => data.microBatch));
      const address = { incarnation: frames.incarnation, assignment, step, bucket: frames.buckets - 1 };
      const lie = encodeFrame({ kind: 'contribution', ...address, microBatches }, packLoss(2n ** 45n));
      connection.sendFrame(lie).catch(() => {});
      return false;
    },
  })),

  /** Copies the hashes that it gave another coordinator of the same model, without computing anything. */
  class: async (context) => {
    const hashes = new Map<string, string>();
    const first = await admitted(
      { ...context, target: context.teacher ?? context.target, tell: () => {} },
      {
        arrives: swallowWork,
        leaves: (message) => {
          if (message.type === 'probed') hashes.set(message.probe, message.hash);
          return true;
        },
      },
      `${context.name}-computed`,
    );
    first.connection.close();
    await untilEnded(context, first.ended).catch(() => {});
    const { connection } = await connectAs(context);
    const ended = new Promise<LantrainError>((end) => {
      connection.onClose = end;
    });
    connection.onControl = onlyFromCoordinator({
      ...DEAF,
      welcome: ignore,
      assign: ignore,
      revoke: ignore,
      'hand-back': ignore,
      evaluate: ignore,
      probe: ({ probe }) => connection.send({ type: 'probed', probe, hash: hashes.get(probe) ?? '' }),
    });
    connection.frames = {
      incarnation: 2 ** 31,
      buckets: 2 ** 20,
      microBatches: 1024,
      kinds: ['weights-whole', 'weights-difference'],
    };
    connection.send({ type: 'join', name: `${context.name}-copied`, adapter: 'none' });
    context.tell({ told: 'begun' });
    await untilEnded(context, ended);
  },
} as const satisfies Record<string, Attack>;
