import * as fc from 'fast-check';
import { LOW_BLOCK_VALUES, LOW_WIDTHS } from '../../cluster/exchange/low-blocks.js';
import { gridByte, gridWords } from '../../src/model/grid.js';

/** An integer that `width` bits hold, often an extreme one. */
function integer(width: number): fc.Arbitrary<bigint> {
  if (width === 0) return fc.constant(0n);
  const most = 2n ** BigInt(width - 1);
  return fc.oneof(
    { weight: 3, arbitrary: fc.bigInt({ min: -most, max: most - 1n }) },
    fc.constantFrom(-most, most - 1n, most / 2n, -most / 2n - 1n, -1n),
  );
}

/** Integers in blocks of all widths: a few of each are drawn, the others repeat a small pattern. */
export function lowIntegers(values: number, widths: readonly number[] = LOW_WIDTHS): fc.Arbitrary<bigint[]> {
  const block = fc.constantFrom(...widths).chain((width) =>
    fc.record({
      rest: fc.array(integer(Math.min(width, 2)), { minLength: 3, maxLength: 3 }),
      some: fc.array(fc.tuple(fc.nat(LOW_BLOCK_VALUES - 1), integer(width)), { maxLength: 12 }),
    }),
  );
  const count = Math.ceil(values / LOW_BLOCK_VALUES);
  return fc.array(block, { minLength: count, maxLength: count }).map((all) =>
    all
      .flatMap(({ rest, some }) => {
        const of = Array.from({ length: LOW_BLOCK_VALUES }, (_, i) => rest[i % rest.length]);
        for (const [place, value] of some) of[place] = value;
        return of;
      })
      .slice(0, values),
  );
}

/** A bucket with every width, each with values that only this width and wider ones hold; the last block may be half. */
export function allWidths(values: number, widths: readonly number[] = LOW_WIDTHS): bigint[] {
  return Array.from({ length: values }, (_, v) => {
    const width = widths[Math.floor(v / LOW_BLOCK_VALUES) % widths.length];
    if (width === 0) return 0n;
    const most = 2n ** BigInt(width - 1);
    return [most - 1n, -most, -1n, 0n, BigInt.asIntN(width, BigInt(v) * 0x9e3779b97f4a7c15n)][v % 5];
  });
}

/** The grid bytes of `values` values, whole words; `exponents` are repeated. */
export function gridBytes(values: number, exponents: readonly number[], decays = false): Uint8Array {
  const bytes = new Uint8Array(4 * gridWords(values));
  for (let block = 0; block < values / 64; block++)
    bytes[block] = gridByte(exponents[block % exponents.length], decays);
  return bytes;
}
