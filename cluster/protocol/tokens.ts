/**
 * Token ids of micro-batches in messages. A sequence of T tokens travels as a window of T + 1 ids: its tokens, and the
 * target of the last. The other targets are the tokens shifted by one. An id has 2 little-endian bytes if the
 * vocabulary allows it, else 4. Sequences without loss, which pad the last micro-batch of an evaluation, are not sent.
 */
import { IGNORED_TARGET, type MicroBatch } from '../../src/model/gpt.js';
import { MAX_FRAME_BYTES } from './frame.js';
import { malformed } from './malformed.js';

/** Largest number of bytes of ids in one message, so that the rest of the message fits as well. */
export const MAX_TOKEN_BYTES = MAX_FRAME_BYTES - 2 ** 18;

/** What the windows of a micro-batch depend on besides its size. `context`: T. */
export interface WindowShape {
  readonly vocabSize: number;
  readonly context: number;
}

const widthOf = (vocabSize: number): 2 | 4 => (vocabSize <= 2 ** 16 ? 2 : 4);

/** Bytes of one window of T + 1 ids. */
export function windowBytes({ vocabSize, context }: WindowShape): number {
  return widthOf(vocabSize) * (context + 1);
}

/** The largest number of bytes that the windows of `rows` tokens can have, whatever the length of a sequence. */
export function mostWindowBytes(vocabSize: number, rows: number): number {
  return windowBytes({ vocabSize, context: 1 }) * rows;
}

/**
 * The windows of a micro-batch, without its padding. Throws RangeError unless its targets are its tokens shifted by one,
 * and its padding, which is at its end, is as `src/train/batches.ts` makes it.
 */
export function packWindows({ tokens, targets }: MicroBatch, { vocabSize, context }: WindowShape): Uint8Array {
  const padding = targets.indexOf(IGNORED_TARGET);
  const windows = (padding < 0 ? tokens.length : padding) / context;
  const ids = new (widthOf(vocabSize) === 2 ? Uint16Array : Uint32Array)(windows * (context + 1));
  for (let i = 0; i < windows; i++) {
    const [from, to] = [i * context, (i + 1) * context];
    ids.set(tokens.subarray(from, to), from + i);
    ids[to + i] = targets[to - 1];
    for (let at = from + 1; at < to; at++)
      if (targets[at - 1] !== tokens[at]) throw new RangeError('the targets are not the tokens shifted by one');
  }
  for (let at = windows * context; at < tokens.length; at++)
    if (tokens[at] !== 0 || targets[at] !== IGNORED_TARGET) throw new RangeError('a sequence follows padding');
  return new Uint8Array(ids.buffer);
}

/**
 * Reverses `packWindows`, for a micro-batch of `sequences` sequences. Throws LT_CLUSTER_MALFORMED unless there are as many
 * windows of ids below the vocabulary's size. `padded`: there may be fewer, but at least one; the rest becomes padding.
 */
export function unpackWindows(
  packed: Uint8Array,
  shape: WindowShape,
  sequences: number,
  padded = false,
): Omit<MicroBatch, 'firstSlot'> {
  const { vocabSize, context } = shape;
  const windows = packed.length / windowBytes(shape);
  if (!Number.isInteger(windows) || windows > sequences || windows < (padded ? 1 : sequences))
    throw malformed(`${packed.length} bytes for ${sequences} sequences of ${context} tokens`);
  const width = widthOf(vocabSize);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const tokens = new Uint32Array(sequences * context);
  const targets = new Uint32Array(sequences * context).fill(IGNORED_TARGET);
  for (let i = 0, at = 0; i < windows; i++)
    for (let t = 0; t <= context; t++, at += width) {
      const id = width === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
      if (id >= vocabSize) throw malformed(`token ${id} of a vocabulary of ${vocabSize}`);
      if (t < context) tokens[i * context + t] = id;
      if (t > 0) targets[i * context + t - 1] = id;
    }
  return { tokens, targets };
}
