/** Token ids in messages: 2 little-endian bytes each if the vocabulary allows it, else 4. */
import { IGNORED_TARGET } from '../../src/model/gpt.js';
import { MAX_FRAME_BYTES } from './frame.js';
import { malformed } from './malformed.js';

/** Largest number of bytes of ids in one message, so that the rest of the message fits as well. */
export const MAX_TOKEN_BYTES = MAX_FRAME_BYTES - 2 ** 18;

const widthOf = (vocabSize: number): 2 | 4 => (vocabSize <= 0xffff ? 2 : 4);

/** Bytes of the ids and targets of a micro-batch of `tokens` tokens. */
export function tokenBytes(vocabSize: number, tokens: number): number {
  return 2 * widthOf(vocabSize) * tokens;
}

/** Packs ids. An ignored target becomes the largest number of its width. */
export function packTokens(ids: Uint32Array, vocabSize: number): Uint8Array {
  const words = widthOf(vocabSize) === 2 ? Uint16Array.from(ids) : ids.slice();
  return new Uint8Array(words.buffer);
}

/**
 * Reverses `packTokens`. Throws LT_CLUSTER_MALFORMED unless there are `length` ids below the vocabulary's size.
 * `ignorable`: ignored targets are allowed too.
 */
export function unpackTokens(packed: Uint8Array, vocabSize: number, length: number, ignorable = false): Uint32Array {
  const width = widthOf(vocabSize);
  if (packed.length !== length * width) throw malformed(`${packed.length} bytes for ${length} tokens`);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const result = new Uint32Array(length);
  for (let i = 0; i < length; i++) {
    const id = width === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
    const ignored = ignorable && id === (width === 2 ? 0xffff : IGNORED_TARGET);
    if (id >= vocabSize && !ignored) throw malformed(`token ${id} of a vocabulary of ${vocabSize}`);
    result[i] = ignored ? IGNORED_TARGET : id;
  }
  return result;
}
