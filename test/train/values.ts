import * as fc from 'fast-check';
import { BLOCK_VALUES } from '../../cluster/exchange/blocks.js';
import { orderKey } from '../reference/blocks.js';

/** Integers as low and high words. */
export interface Words {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

/** The extremes of each byte width, and the values just beyond. */
const EDGES = [1, 2, 3, 4, 5, 8].flatMap((width) => {
  const most = 2n ** BigInt(8 * width - 1);
  return [most - 1n, -most, ...(width < 8 ? [most, -most - 1n] : [])];
});

/** An integer that a number of `width` bytes holds, often an extreme one. */
function integer(width: number): fc.Arbitrary<bigint> {
  const most = 2n ** BigInt(Math.max(0, 8 * width - 1));
  const edges = EDGES.filter((v) => -most <= v && v < most);
  const any = fc.bigInt({ min: width === 0 ? 0n : -most, max: width === 0 ? 0n : most - 1n });
  return edges.length === 0 ? any : fc.oneof({ weight: 3, arbitrary: any }, fc.constantFrom(...edges));
}

/** Blocks of all widths: a few values of each are drawn, the others repeat a small number. */
export function blocks(values: number, widths: readonly number[] = [0, 1, 2, 3, 4, 5, 8]): fc.Arbitrary<Words> {
  const block = fc.constantFrom(...widths).chain((width) =>
    fc.record({
      rest: integer(Math.min(width, 1)),
      some: fc.array(fc.tuple(fc.nat(BLOCK_VALUES - 1), integer(width)), { maxLength: 8 }),
    }),
  );
  const count = Math.ceil(values / BLOCK_VALUES);
  return fc.array(block, { minLength: count, maxLength: count }).map((all) => {
    const integers = all.flatMap(({ rest, some }) => {
      const of = new Array<bigint>(BLOCK_VALUES).fill(rest);
      for (const [place, value] of some) of[place] = value;
      return of;
    });
    return wordsOf(integers.slice(0, values));
  });
}

export function wordsOf(integers: readonly bigint[]): Words {
  return {
    low: Uint32Array.from(integers, (v) => Number(BigInt.asUintN(32, v))),
    high: Uint32Array.from(integers, (v) => Number(BigInt.asUintN(32, v >> 32n))),
  };
}

export function integersOf({ low, high }: Words): bigint[] {
  return Array.from(low, (word, i) => (BigInt(high[i] | 0) << 32n) + BigInt(word));
}

/** Bits of awkward floats: zeros, denormals, infinities, NaNs with payloads, extremes. */
export const SPECIAL_BITS = [
  0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, 0x7f7fffff,
  0xff7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0xff800001, 0x7fc00000, 0xffc00000, 0x7fffffff, 0xffffffff,
  0x3f800000, 0xbf800000,
] as const;

/** Bits of weights before and after, which differ by blocks of all widths. */
export function weightPairs(values: number): fc.Arbitrary<{ before: Uint32Array; after: Uint32Array }> {
  const bits = fc.oneof(
    fc.constantFrom(...SPECIAL_BITS),
    fc.integer({ min: 0, max: 0xffffffff }),
    fc.constant(0x3c23d70a),
  );
  const before = fc.array(bits, { minLength: values, maxLength: values });
  return fc.tuple(before, blocks(values, [0, 1, 2, 3, 4])).map(([from, { low }]) => ({
    before: Uint32Array.from(from),
    after: Uint32Array.from(from, (b, i) => orderKey((orderKey(b) + low[i]) >>> 0)),
  }));
}
