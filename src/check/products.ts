import { rounded } from '../reference/arithmetic.js';
import { dropoutFactor } from '../reference/dropout.js';
import { product, stored, storedGelu } from '../reference/products.js';
import { type Checking, ones, PLACES, ROUNDED_PLACES, shown } from './checking.js';
import type { Runs } from './gather.js';
import { addedSums, readSums } from './sums.js';

/*
 * Matrix products: the entry points of every kernel (shaders/epilogue.wgsl), split-K and its sum, and the copies of operands.
 * A place is a row and a column of C. All its terms are computed again.
 */

const f32 = Math.fround;

/** The layouts by their number in the shader (`LAYOUTS` of matmul.ts). */
const LAYOUTS = ['NN', 'NT', 'TN'] as const;

interface Drawn {
  readonly rows: readonly number[];
  readonly columns: readonly number[];
}

/** Rows and columns of a matrix whose pairs are at least `places` places: as many of both, as far as there are so many. */
function drawn(c: Checking, m: number, n: number, places = PLACES): Drawn {
  const side = Math.ceil(Math.sqrt(places));
  const count = Math.min(m, Math.max(side, Math.ceil(places / n)));
  return { rows: c.draw(count, m), columns: c.draw(Math.ceil(places / count), n) };
}

/** Places of what an epilogue stores: more where it is rounded. */
function storedPlaces(c: Checking): number {
  return c.defines('roundC') || c.dispatch.entry === 'storeGelu' ? ROUNDED_PLACES : PLACES;
}

/** The indices of all places in a matrix with leading dimension `ld`. */
function indicesOf({ rows, columns }: Drawn, ld: number): number[] {
  return rows.flatMap((row) => columns.map((column) => row * ld + column));
}

/** In words: place `i` of `indicesOf`. */
function placeIn({ rows, columns }: Drawn): (i: number) => string {
  return (i) => `row ${rows[Math.floor(i / columns.length)]}, column ${columns[i % columns.length]}`;
}

/** An operand of a product: its leading dimension, and whether the terms of a line lie side by side. */
interface Operand {
  readonly ld: number;
  readonly isTight: boolean;
}

/** Lines are the rows of A and the columns of B. */
function operandsOf(c: Checking): { readonly a: Operand; readonly b: Operand } {
  const layout = LAYOUTS[c.constant('LAYOUT')];
  // This kernel wants A by terms: NT reads a transposed copy.
  const isTall = c.dispatch.shader === 'matmul_subgroup_tall';
  return {
    a: { ld: c.constant('LDA'), isTight: layout === 'NN' || (layout === 'NT' && !isTall) },
    b: { ld: c.constant('LDB'), isTight: layout === 'NT' },
  };
}

/** The places of `k` terms of these lines, from term `first` on. */
function linesOf({ ld, isTight }: Operand, lines: readonly number[], first: number, k: number): Runs {
  if (isTight) return lines.map((line) => [line * ld + first, k]);
  const count = lines.length;
  return Uint32Array.from({ length: k * count }, (_, i) => (first + Math.floor(i / count)) * ld + lines[i % count]);
}

/** What was read of `linesOf`, line by line: [lines, k]. */
function byLine(values: Float32Array, { isTight }: Operand, lines: number): Float32Array {
  if (isTight) return values;
  const k = values.length / lines;
  return values.map((_, i) => values[(i % k) * lines + Math.floor(i / k)]);
}

/** The products of the drawn places over `k` terms from `first` on, without epilogue: [rows, columns]. */
async function productOf(c: Checking, { rows, columns }: Drawn, first: number, k: number, begin?: ArrayLike<number>) {
  const operands = operandsOf(c);
  const read = await c.read({
    a: linesOf(operands.a, rows, first, k),
    b: linesOf(operands.b, columns, first, k),
  });
  const a = byLine(read.a, operands.a, rows.length);
  const b = byLine(read.b, operands.b, columns.length);
  const values = product({ layout: 'NT', m: rows.length, n: columns.length, k, a, b, begin });
  const line = (all: Float32Array, n: number) => all.subarray(n * k, (n + 1) * k);
  const inputs = (i: number) =>
    `K ${k}, ${shown('a', line(a, Math.floor(i / columns.length)))}, ${shown('b', line(b, i % columns.length))}`;
  return { values, inputs };
}

/** What the epilogues of `total` [rows, columns] read, and what they store. */
async function checkEpilogue(c: Checking, places: Drawn, total: Awaited<ReturnType<typeof productOf>>): Promise<void> {
  const { columns } = places;
  const [n, ldc] = [columns.length, c.constant('LDC')];
  const indices = ones(indicesOf(places, ldc));
  const bias = c.flag('BIAS') ? (await c.read({ bias: ones(columns) })).bias : undefined;
  const place = placeIn(places);
  const { values, inputs } = total;
  const { entry } = c.dispatch;
  if (entry === 'storeGelu') {
    const want = storedGelu(values, n, bias);
    c.run();
    const got = await c.read({ c: indices, geluOutput: indices });
    c.same('c', got.c, want.hidden, place, inputs);
    c.same('geluOutput', got.geluOutput, want.gelu, place, (i) => shown('c', [want.hidden[i]]));
    return;
  }
  const residual = c.flag('RESIDUAL') ? (await c.read({ residual: indices })).residual : undefined;
  const geluGradient = c.flag('GELU_GRADIENT') ? (await c.read({ gradient: indices })).gradient : undefined;
  const factors = entry === 'storeDropout' ? await factorsOf(c, places) : undefined;
  const want = stored(values, n, { bias, residual, geluGradient, factors, rounds: c.defines('roundC') });
  c.run();
  c.same('c', (await c.read({ c: indices })).c, want, place, inputs);
}

async function factorsOf(c: Checking, { rows, columns }: Drawn): Promise<Float32Array> {
  const key = await c.dropoutKey('key');
  const [N, each] = [c.constant('N'), c.constant('ROWS_PER_SEQUENCE')];
  return Float32Array.from(
    rows.flatMap((row) =>
      columns.map((column) => dropoutFactor(key, Math.floor(row / each), (row % each) * N + column)),
    ),
  );
}

async function beginOf(c: Checking, places: Drawn): Promise<Float32Array | undefined> {
  if (!c.flag('ACCUMULATE')) return undefined;
  return (await c.read({ c: ones(indicesOf(places, c.constant('LDC'))) })).c;
}

/** `store`, `storeGelu`, `storeDropout`. */
export async function checkStore(c: Checking): Promise<void> {
  const places = drawn(c, c.extent.rows, c.constant('N'), storedPlaces(c));
  const total = await productOf(c, places, 0, c.constant('K'), await beginOf(c, places));
  await checkEpilogue(c, places, total);
}

/** `fixed`: each product of a stack is rounded to fixed point by itself. */
export async function checkFixed(c: Checking): Promise<void> {
  const { rows, stack, accumulate } = c.extent;
  const places = drawn(c, rows, c.constant('N'));
  const k = c.constant('K');
  const products = [];
  for (let s = 0; s < stack; s++) products.push(await productOf(c, places, s * k, k));
  await checkSums(
    c,
    places,
    products.map(({ values }) => values),
    accumulate,
    products[0].inputs,
  );
}

async function checkSums(
  c: Checking,
  places: Drawn,
  addends: readonly Float32Array[],
  accumulate: boolean,
  inputs: (i: number) => string,
): Promise<void> {
  const indices = indicesOf(places, c.constant('LDC'));
  const want = await addedSums(c, indices, addends, accumulate);
  c.run();
  c.sameSums(await readSums(c, indices), want, placeIn(places), inputs);
}

/** `splitK`: the sums of parts of K, [parts, M, N rounded up to a multiple of 4]. */
export async function checkSplit(c: Checking): Promise<void> {
  const { rows: m } = c.extent;
  const [K, terms, n] = [c.constant('K'), c.constant('TERMS'), c.constant('N')];
  const places = drawn(c, m, n);
  const ld = 4 * Math.ceil(n / 4);
  const parts = c.draw(4, Math.ceil(K / terms));
  const wanted = [];
  for (const part of parts) wanted.push(await productOf(c, places, part * terms, Math.min(terms, K - part * terms)));
  c.run();
  for (const [i, { values, inputs }] of wanted.entries()) {
    const part = parts[i];
    const runs = ones(indicesOf(places, ld).map((at) => part * m * ld + at));
    const place = (at: number) => `part ${part}, ${placeIn(places)(at)}`;
    c.same('partial', (await c.read({ partial: runs })).partial, values, place, inputs);
  }
}

/** The sum of the parts, from C or zero on: [rows, columns]. */
async function partsOf(c: Checking, places: Drawn, begin?: Float32Array) {
  const { rows: m } = c.extent;
  const ld = 4 * Math.ceil(c.constant('N') / 4);
  const values = begin?.slice() ?? new Float32Array(places.rows.length * places.columns.length);
  const parts: Float32Array[] = [];
  for (let part = 0; part < c.constant('SPLIT_K'); part++) {
    const runs = ones(indicesOf(places, ld).map((at) => part * m * ld + at));
    const { partials } = await c.read({ partials: runs });
    for (const [i, value] of partials.entries()) values[i] = f32(values[i] + value);
    parts.push(partials);
  }
  return {
    values,
    inputs: (i: number) =>
      shown(
        'parts',
        parts.map((part) => part[i]),
      ),
  };
}

export async function checkReducedStore(c: Checking): Promise<void> {
  const places = drawn(c, c.extent.rows, c.constant('N'), storedPlaces(c));
  await checkEpilogue(c, places, await partsOf(c, places, await beginOf(c, places)));
}

export async function checkReducedFixed(c: Checking): Promise<void> {
  const places = drawn(c, c.extent.rows, c.constant('N'));
  const { values, inputs } = await partsOf(c, places);
  await checkSums(c, places, [values], c.extent.accumulate, inputs);
}

/** `space`, `transpose` of shaders/arrange.wgsl: copies, rounded to 12 bits unless their source is. */
export async function checkArranged(c: Checking): Promise<void> {
  const places = drawn(c, c.extent.rows, c.constant('COLS'));
  const { rows, columns } = places;
  const ldt = c.constant('LDT');
  const isTransposed = c.dispatch.entry === 'transpose';
  const { source } = await c.read({ source: ones(indicesOf(places, c.constant('LDS'))) });
  const want = c.defines('round') ? source.map(rounded) : source;
  const targets = isTransposed
    ? rows.flatMap((row) => columns.map((column) => column * ldt + row))
    : indicesOf(places, ldt);
  c.run();
  const { target4 } = await c.read({ target4: ones(targets) });
  c.same('target4', target4, want, placeIn(places), (i) => shown('source', [source[i]]));
}

/** shaders/round_weights.wgsl */
export async function checkRoundedWeights(c: Checking): Promise<void> {
  const indices = c.draw(PLACES, c.constant('N'));
  const { source } = await c.read({ source: ones(indices) });
  c.run();
  const { destination } = await c.read({ destination: ones(indices) });
  c.same(
    'destination',
    destination,
    source.map(rounded),
    (i) => `${indices[i]}`,
    (i) => shown('source', [source[i]]),
  );
}
