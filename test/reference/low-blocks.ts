/** A plain packer and unpacker of the low wire's format (`cluster/exchange/low-blocks.ts`), bit by bit. */
import { payloadChecksum, weightsChecksum } from '../../cluster/exchange/checksum.js';
import { LOW_BLOCK_VALUES, LOW_WIDTHS, type LowKind, lowLayout } from '../../cluster/exchange/low-blocks.js';

/** The smallest code whose width holds all of `values`. */
export function smallestCode(values: readonly bigint[]): number {
  return LOW_WIDTHS.findIndex((width) => values.every((v) => BigInt.asIntN(width, v) === v));
}

/** The words of a block of 128 values. */
function wordsOfBlock(values: readonly bigint[], width: number): number[] {
  const words = new Array<number>(4 * width).fill(0);
  for (const [v, value] of values.entries()) {
    const [i, l] = [v >> 2, v & 3];
    for (let bit = 0; bit < width; bit++) {
      if (((value >> BigInt(bit)) & 1n) === 0n) continue;
      const place = width === 64 ? 32 * v + (bit % 32) + 32 * 128 * Math.floor(bit / 32) : 0;
      const inStream = i * width + bit;
      const word = width === 64 ? Math.floor(place / 32) : 4 * Math.floor(inStream / 32) + l;
      words[word] |= 1 << (width === 64 ? place % 32 : inStream % 32);
    }
  }
  return words;
}

/**
 * Packs integers with the given words after the number of values (check, and grid words of updates). `codes`: wider than
 * needed, for readers.
 */
export function packLow(values: readonly bigint[], head: readonly number[], codes?: readonly number[]): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(values.length / LOW_BLOCK_VALUES) }, (_, block) =>
    values.slice(block * LOW_BLOCK_VALUES, (block + 1) * LOW_BLOCK_VALUES),
  );
  const chosen = blocks.map((block, i) => codes?.[i] ?? smallestCode(block));
  const codeWords = new Array<number>(Math.ceil(blocks.length / 8)).fill(0);
  chosen.forEach((code, block) => {
    codeWords[block >> 3] |= code << (4 * (block & 7));
  });
  const payload = blocks.flatMap((block, i) => wordsOfBlock(block, LOW_WIDTHS[chosen[i]]));
  const all = [0, values.length, ...head, ...codeWords, ...payload];
  all[0] = all.length;
  return new Uint8Array(Uint32Array.from(all).buffer);
}

/** Sums in units of the grid with the bytes `grid`, whole words. */
export function packLowSums(values: readonly bigint[], grid: Uint8Array, codes?: readonly number[]): Uint8Array {
  const { a, b } = payloadChecksum(grid);
  return packLow(values, [a, b], codes);
}

/** Moves with the bytes of the next grid, whole words, and the new weights as bits. */
export function packUpdates(
  moves: readonly number[],
  grid: Uint8Array,
  after: Uint32Array,
  codes?: readonly number[],
): Uint8Array {
  const { a, b } = weightsChecksum(after);
  return packLow(moves.map(BigInt), [a, b, ...new Uint32Array(grid.slice().buffer)], codes);
}

/** The integers of `packed`. Throws LT_CLUSTER_FRAME. */
export function unpackLow(packed: Uint8Array, values: number, kind: LowKind): bigint[] {
  const { words, codes, offsets } = lowLayout(packed, values, kind);
  return Array.from({ length: values }, (_, place) => {
    const block = Math.floor(place / LOW_BLOCK_VALUES);
    const width = LOW_WIDTHS[codes[block]];
    const v = place % LOW_BLOCK_VALUES;
    let value = 0n;
    for (let bit = 0; bit < width; bit++) {
      const inStream = (v >> 2) * width + bit;
      const narrow = [4 * Math.floor(inStream / 32) + (v & 3), inStream % 32];
      const [word, of] = width === 64 ? [v + 128 * Math.floor(bit / 32), bit % 32] : narrow;
      value |= BigInt((words[offsets[block] + word] >>> of) & 1) << BigInt(bit);
    }
    return BigInt.asIntN(width, value);
  });
}

/** Moves as nibbles, eight a word. */
export function nibbles(moves: readonly number[]): Uint32Array {
  const words = new Uint32Array(moves.length / 8);
  moves.forEach((move, v) => {
    words[v >> 3] |= (move & 15) << (4 * (v & 7));
  });
  return words;
}
