import { beforeAll, expect, test } from 'vitest';
import { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { STATUS_NONFINITE, STATUS_OVERFLOW } from '../../src/model/sums.js';
import { loadShaders } from '../../src/node/shaders.js';
import * as reference from '../../src/reference/fixed-point.js';
import { deriveKey, threefry } from '../../src/util/random.js';
import { GpuHarness } from '../gpu/harness.js';

// Kernels that only call the functions, so that every integer they return is compared.
const PROBE = `//! import fixed_point
@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn toFixed(@builtin(global_invocation_id) id: vec3u) {
  let g = toFixedPoint(a[id.x]);
  out[3u * id.x] = g.x;
  out[3u * id.x + 1u] = g.y;
  out[3u * id.x + 2u] = fixedPointStatus(a[id.x]);
}

@compute @workgroup_size(64)
fn fromFixed(@builtin(global_invocation_id) id: vec3u) {
  let i = 4u * id.x;
  if (i >= arrayLength(&out)) { return; }
  let low = vec4u(a[2u * i], a[2u * i + 2u], a[2u * i + 4u], a[2u * i + 6u]);
  let high = vec4u(a[2u * i + 1u], a[2u * i + 3u], a[2u * i + 5u], a[2u * i + 7u]);
  let floats = bitcast<vec4u>(fromFixedPoint(low, high));
  for (var k = 0u; k < 4u; k++) { out[i + k] = floats[k]; }
}

@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3u) {
  let i = 2u * id.x;
  let sum = add64(vec2u(a[i], a[i + 1u]), vec2u(b[i], b[i + 1u]));
  out[i] = sum.x;
  out[i + 1u] = sum.y;
}`;

let harness: GpuHarness;
let kernels: KernelCache;
beforeAll(async () => {
  harness = await GpuHarness.open();
  kernels = new KernelCache(harness.gpu, { ...loadShaders(), probe: PROBE });
});

const COUNT = 2 ** 16;

/** Runs `entry` in COUNT threads, each of which writes `perThread` words. */
async function probe(entry: string, perThread: number, a: Uint32Array, b?: Uint32Array): Promise<Uint32Array> {
  const out = await harness.zeros(perThread * COUNT);
  const bindings = { a: await harness.put(a), out, ...(b && { b: await harness.put(b) }) };
  const list = new DispatchList();
  list.add({ shader: 'probe', entry, constants: {}, bindings, groups: [COUNT / 64] });
  await list.prepare(kernels);
  list.submit(harness.gpu);
  return harness.words(out);
}

/** `count` reproducible 32-bit words. */
function randomWords(count: number, seed: number): Uint32Array {
  const key = deriveKey(seed, 97);
  return Uint32Array.from({ length: count }, (_, i) => threefry(key, i >> 1, 0)[i & 1]);
}

/** Bit patterns of float32: every exponent with mantissas at the edges, ties around the steps of fixed point, then random ones. */
function floatPatterns(): Uint32Array {
  const bits: number[] = [];
  for (let exponent = 0; exponent < 256; exponent++)
    for (const mantissa of [0, 1, 0x3fffff, 0x400000, 0x400001, 0x7fffff])
      for (const sign of [0, 1]) bits.push(((sign << 31) | (exponent << 23) | mantissa) >>> 0);
  const ties = [0.5, 1.5, 2.5, 3.5, 1000.5, 1001.5, 2 ** 22 + 0.5, 2 ** 22 + 1.5].flatMap((steps) => [steps, -steps]);
  bits.push(...new Uint32Array(Float32Array.from(ties, (steps) => steps * 2 ** -40).buffer));
  const all = randomWords(COUNT, 1);
  // Half of the random ones lie where fixed point rounds: exponents 80 to 120.
  for (let i = 0; i < COUNT; i += 2) all[i] = (all[i] & 0x807fffff) | ((80 + (all[i + 1] % 41)) << 23);
  all.set(bits);
  return all;
}

test('fixed point rounds every kind of float32 as integers of any size do, and says what does not fit', async () => {
  const bits = floatPatterns();
  const values = new Float32Array(bits.buffer);
  const got = await probe('toFixed', 3, bits);
  let compared = 0;
  for (let i = 0; i < COUNT; i++) {
    const what = `0x${bits[i].toString(16)} = ${values[i]}`;
    const status = reference.fixedPointStatus(values[i]);
    if (got[3 * i + 2] !== status) expect(got[3 * i + 2], what).toBe(status);
    if (status !== 0) continue;
    const sum = reference.fromWords(got[3 * i], got[3 * i + 1]);
    if (sum !== reference.toFixedPoint(values[i])) expect(sum, what).toBe(reference.toFixedPoint(values[i]));
    compared++;
  }
  expect(compared).toBeGreaterThan(COUNT / 2);
  expect([STATUS_NONFINITE, STATUS_OVERFLOW]).toEqual([reference.STATUS_NONFINITE, reference.STATUS_OVERFLOW]);
});

/** 64-bit integers as pairs of words: around each power of two and the middles between floats, then of all sizes. */
function integers(seed: number): BigInt64Array {
  const words = randomWords(3 * COUNT, seed);
  const all = BigInt64Array.from(
    { length: COUNT },
    (_, i) => reference.fromWords(words[3 * i], words[3 * i + 1]) >> BigInt(words[3 * i + 2] % 63),
  );
  const special = [0n, 2n ** 63n - 1n, -(2n ** 63n)];
  for (let k = 0n; k < 63n; k++) for (const d of [-1n, 0n, 1n]) special.push(2n ** k + d, -(2n ** k) + d);
  // Halfway between two floats, one to each side of it, with an even and an odd mantissa; and a carry into the exponent.
  for (let k = 25n; k < 63n; k++)
    for (const mantissa of [2n ** 24n, 2n ** 24n + 1n, 2n ** 25n - 1n])
      for (const d of [-1n, 0n, 1n]) {
        const middle = (mantissa << (k - 24n)) + (1n << (k - 25n)) + d;
        special.push(BigInt.asIntN(64, middle), BigInt.asIntN(64, -middle));
      }
  all.set(special);
  return all;
}

const wordsOf = (n: BigInt64Array) => new Uint32Array(n.buffer);

test('fixed point turns 64-bit sums into the nearest float32, bit for bit', async () => {
  const sums = integers(2);
  const got = new Float32Array((await probe('fromFixed', 1, wordsOf(sums))).buffer);
  for (let i = 0; i < COUNT; i++) {
    const want = reference.fromFixedPoint(sums[i]);
    if (!Object.is(got[i], want)) expect(got[i], `sum ${sums[i]}`).toBe(want);
  }
});

test('fixed point adds 64-bit integers with the carry, wrapping round', async () => {
  const [a, b] = [integers(3), integers(4).reverse()];
  const got = new BigInt64Array((await probe('add', 2, wordsOf(a), wordsOf(b))).buffer);
  for (let i = 0; i < COUNT; i++) {
    const want = BigInt.asIntN(64, a[i] + b[i]);
    if (got[i] !== want) expect(got[i], `${a[i]} + ${b[i]}`).toBe(want);
  }
});
