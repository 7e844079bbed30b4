import { mostWords } from '../../../cluster/exchange/blocks.js';
import { mostLowWords } from '../../../cluster/exchange/low-blocks.js';
import { type Frame, HEADER_BYTES } from '../../../cluster/protocol/frame.js';
import type { WorkerMessage } from '../../../cluster/protocol/protocol.js';
import { sets } from '../../../cluster/round/round.js';
import type { DealtWork } from '../../../cluster/worker/work.js';
import { gridWords } from '../../../src/model/grid.js';
import type { Wire } from '../../../src/model/wire.js';
import type { FromWorker, ToWorker } from './owner.js';

/**
 * Translates actions and messages like the coordinator's shell and the wire, with one integer for each bucket's bytes.
 */

const NO_IDS = new Uint8Array();

export const checksumOf = (value: number) => ({ a: value >>> 0, b: 0 });

/** Values of the bucket that stands for one integer: the smallest possible bucket. */
export const BUCKET_VALUES = 64;

export const payloadValue = ({ payload }: Frame): number =>
  new DataView(payload.buffer, payload.byteOffset).getInt32(0);

/** The most words that a frame of a bucket's weights has. */
function wordsOf(form: 'whole' | 'difference', wire: Wire): number {
  if (form === 'whole') return BUCKET_VALUES + (wire === 'low' ? gridWords(BUCKET_VALUES) : 0);
  return wire === 'low' ? mostLowWords(BUCKET_VALUES, 'updates') : mostWords(BUCKET_VALUES, 'differences');
}

/** A frame of weights, as long as it can be in the run's wire. */
export function frameOf(message: Extract<ToWorker, { type: 'weights' }>, wire: Wire): Frame {
  const { bucket, version, form, value, after } = message;
  const payload = new Uint8Array(4 * wordsOf(form, wire));
  new DataView(payload.buffer).setInt32(0, value);
  const base = form === 'whole' ? 0 : version - 1;
  const header = {
    incarnation: 1,
    assignment: 0,
    bucket,
    step: version,
    base,
    weights: checksumOf(after),
    exponent: 0,
  };
  const bytes = HEADER_BYTES + payload.length;
  return { header: { kind: `weights-${form}`, ...header }, payload, payloadChecksum: checksumOf(value), bytes };
}

export function dealtOf({ assignment, kind, step, ...dealt }: Extract<ToWorker, { type: 'assign' }>): DealtWork {
  const data = (microBatch: number) => ({ microBatch, slot: microBatch, ids: NO_IDS });
  const microBatches = sets.idsOf(dealt.microBatches).map(data);
  return { assignment, kind, step, microBatches, buckets: sets.idsOf(dealt.buckets) };
}

/** The round's events for a worker's message. None for an evaluation's losses, which are a contribution. */
export function eventsOf(message: WorkerMessage): FromWorker[] {
  switch (message.type) {
    case 'ready':
      return [{ type: 'life' }];
    case 'progress':
      return [message];
    case 'mismatch':
      return message.buckets.map((bucket) => ({ type: 'mismatch', bucket }));
    case 'handed-back':
      return [{ ...message, microBatches: sets.microBatchSet(message.microBatches) }];
    case 'refused': {
      const { type, assignment, what: reason } = message;
      return [{ type, assignment, microBatches: sets.microBatchSet([message.microBatch]), reason }];
    }
    case 'evaluated': {
      const { assignment, finite } = message;
      const microBatches = sets.microBatchSet(message.microBatches);
      return finite ? [] : [{ type: 'refused', assignment, microBatches, reason: 'the loss' }];
    }
    default:
      throw new Error(`a simulated worker does not say ${message.type}`);
  }
}
