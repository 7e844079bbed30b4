import { beforeAll, describe, expect, test } from 'vitest';
import { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { portably } from '../../src/model/arithmetic.js';
import { loadShaders } from '../../src/node/shaders.js';
import { bitsOf, fromBits } from '../../src/reference/arithmetic.js';
import { deriveKey, threefry } from '../../src/util/random.js';
import { GpuHarness } from '../gpu/harness.js';
import { FUNCTIONS, type FunctionName, type PortableFunction, Probe, plainBits } from './portable-functions.js';

const COUNT = 2 ** 20;
const NAMES = Object.keys(FUNCTIONS) as FunctionName[];

let probe: Probe;
beforeAll(async () => {
  probe = await Probe.create(await GpuHarness.open(), COUNT);
});

/** `count` reproducible 32-bit words. */
function randomWords(count: number, seed: number): Uint32Array {
  const key = deriveKey(seed, 96);
  return Uint32Array.from({ length: count }, (_, i) => threefry(key, i >> 1, 0)[i & 1]);
}

/** Significands at which something changes: ends, ties and carries of 12 bits, the middle that log2 halves from. */
const SIGNIFICANDS = [
  ...[0, 1, 2, 0x7fe, 0x7ff, 0x800, 0x801, 0xfff, 0x1000, 0x1001, 0x17ff, 0x1800, 0x1801],
  ...[0x3504f2, 0x3504f3, 0x3504f4, 0x3fffff, 0x400000, 0x400001, 0x7ff7ff, 0x7ff800, 0x7ff801, 0x7ffffe, 0x7fffff],
];

/** Bits of inputs: every exponent and sign with these significands, each end of exp2's intervals, and random ones. */
function inputs({ bits, range, worst }: PortableFunction): Uint32Array {
  const special: number[] = [];
  for (let high = 0; high < 512; high++)
    for (const significand of SIGNIFICANDS) special.push(high * 2 ** 23 + significand);
  for (let n = -152; n <= 130; n++)
    for (const end of [n, n + 0.5]) for (let d = -3; d <= 3; d++) special.push((bitsOf(end) + d) >>> 0);
  if (bits) for (const end of bits) for (let d = -3; d <= 3; d++) special.push(end + d);
  const all = randomWords(COUNT, 1);
  for (const [first, limits] of [range, worst].entries()) {
    if (!limits) continue;
    // A third of the random ones each: of every exponent as many where all are positive, else spread evenly.
    const [least, largest] = limits;
    for (let i = first; i < COUNT; i += 3)
      all[i] =
        least > 0
          ? bitsOf(least) + (all[i] % (bitsOf(largest) - bitsOf(least) + 1))
          : bitsOf(least + ((largest - least) * all[i]) / 2 ** 32);
  }
  all.set(special);
  return all;
}

/** Whole numbers near the exponents of `x`, as `exp2Less4` takes them: 0, -0, near x, and any. */
function wholeNumbers(x: Float32Array): Float32Array {
  const words = randomWords(COUNT, 2);
  return Float32Array.from(x, (t, i) => {
    const near = Math.max(-200, Math.min(200, Number.isNaN(t) ? 0 : Math.floor(t)));
    return [0, -0, near, near + 1 + (words[i] % 120), near - (words[i] % 100), (words[i] % 401) - 200][i % 6];
  });
}

describe('the functions of shaders/portable.wgsl', () => {
  test.for(NAMES)('%s equals its TypeScript in every bit', async (name) => {
    const wanted: PortableFunction = FUNCTIONS[name];
    const [least, largest] = wanted.bits ?? [0, 0xffffffff];
    const words = inputs(wanted);
    const x = new Float32Array(words.buffer);
    const m = wholeNumbers(x);
    probe.write(words, new Uint32Array(m.buffer));
    const got = await probe.call(name);
    let compared = 0;
    for (let i = 0; i < COUNT; i++) {
      const isSpecial = words[i] === 0 || words[i] === 0x7f800000 || Number.isNaN(x[i]);
      if ((words[i] < least || words[i] > largest) && !isSpecial) continue;
      compared++;
      // `keep` lets denormals pass, and JavaScript -0: bits are compared.
      const want = name === 'keep4' && !Number.isNaN(x[i]) ? words[i] : plainBits(wanted.of(x[i], m[i]));
      if (got[i] !== want)
        expect(got[i].toString(16), `of 0x${words[i].toString(16)} = ${x[i]}, ${m[i]}`).toBe(want.toString(16));
    }
    expect(compared).toBeGreaterThan((2 / 3) * COUNT);
  });

  test.for(NAMES.filter((name) => 'exact' in FUNCTIONS[name]))(
    '%s is as near to the true value as the table of its file says',
    (name) => {
      const { of, exact, range, error }: PortableFunction = FUNCTIONS[name];
      if (!exact || !range || !error) throw new Error('its range and error are missing');
      let largest = 0;
      let where = 0;
      for (const word of inputs(FUNCTIONS[name])) {
        const x = fromBits(word);
        if (!(x >= range[0] && x <= range[1])) continue;
        const want = exact(x, 0);
        const ulp = 2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(want)))) - 23);
        const far = want === 0 ? Math.abs(of(x, 0)) * Infinity || 0 : Math.abs(of(x, 0) - want) / ulp;
        if (!(far <= largest)) [largest, where] = [far, x];
      }
      expect(largest, `at ${where}`).toBeLessThanOrEqual(error);
      expect(largest, 'the table allows more than there is').toBeGreaterThan(error - 0.2);
    },
  );
});

/** Sums with constants, which compilers like to add first. */
const CHAINS = `//! import arithmetic
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64)
fn kept(@builtin(global_invocation_id) id: vec3u) { out[id.x] = keep(keep(x[id.x] + 0.1) + 0.2); }
@compute @workgroup_size(64)
fn free(@builtin(global_invocation_id) id: vec3u) { out[id.x] = (x[id.x] + 0.1) + 0.2; }
`;

test('a sum keeps its order through `keep`, and only so on a driver that adds constants first', async ({ skip }) => {
  const harness = await GpuHarness.open();
  const kernels = new KernelCache(harness.gpu, { ...loadShaders(), chains: CHAINS });
  const values = Float32Array.from({ length: 4096 }, (_, i) => i / 1000 - 2);
  const [x, out] = [await harness.put(values), await harness.zeros(values.length)];
  const differences = async (entry: string) => {
    const list = new DispatchList();
    list.add(portably({ shader: 'chains', entry, constants: {}, bindings: { x, out }, groups: [values.length / 64] }));
    await list.prepare(kernels);
    list.submit(harness.gpu);
    const got = await harness.floats(out);
    const [first, second] = [Math.fround(0.1), Math.fround(0.2)];
    return got.filter((v, i) => v !== Math.fround(Math.fround(values[i] + first) + second)).length;
  };
  expect(await differences('kept')).toBe(0);
  skip(!harness.gpu.adapter.driver.includes('llvmpipe'), 'only lavapipe is known to do so');
  expect(await differences('free')).toBeGreaterThan(100);
});
