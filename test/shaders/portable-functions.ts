/** The functions of shaders/portable.wgsl: kernels that call them, what they must give, and where. */
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import type { View } from '../../src/gpu/view.js';
import { portably } from '../../src/model/arithmetic.js';
import { loadShaders } from '../../src/node/shaders.js';
import * as portable from '../../src/reference/arithmetic.js';
import type { GpuHarness } from '../gpu/harness.js';

export interface PortableFunction {
  /** `m`: a whole number, where the function takes one. */
  readonly of: (x: number, m: number) => number;
  /** The same in float64, for the errors. */
  readonly exact?: (x: number, m: number) => number;
  /**
   * Bits of the least and the largest input whose result no driver can change; 0, infinity and NaN are always as sure.
   * Default: all inputs.
   */
  readonly bits?: readonly [least: number, largest: number];
  /** Inputs at which `error` holds, and the largest error there in ulp. */
  readonly range?: readonly [least: number, largest: number];
  readonly error?: number;
  /** Inputs among which the largest errors are. */
  readonly worst?: readonly [least: number, largest: number];
}

const bits = portable.bitsOf;
/** What a reciprocal or a root may be asked for: beyond, a result on the way may be denormal, which drivers may flush. */
const MIDDLE = [2 ** -100, 2 ** 100] as const;
const MIDDLE_BITS = [bits(MIDDLE[0]), bits(MIDDLE[1])] as const;

export const FUNCTIONS = {
  keep4: { of: (x) => x },
  settle4: { of: portable.settle },
  rounded4: { of: portable.rounded },
  reciprocal4: {
    of: portable.reciprocal,
    exact: (x) => 1 / x,
    bits: MIDDLE_BITS,
    range: MIDDLE,
    error: 1.2,
    worst: [1, 2],
  },
  inverseSquareRoot: {
    of: portable.inverseSqrt,
    exact: (x) => 1 / Math.sqrt(x),
    bits: MIDDLE_BITS,
    range: MIDDLE,
    error: 1.1,
    worst: [1, 4],
  },
  squareRoot4: { of: portable.sqrt, exact: Math.sqrt, bits: MIDDLE_BITS, range: MIDDLE, error: 1, worst: [1, 4] },
  exp2Of4: { of: portable.exp2, exact: (x) => 2 ** x, range: [-100, 127.499], error: 1.3, worst: [-1, 1] },
  exp2Less4: { of: portable.exp2Less },
  log2Of: { of: portable.log2, exact: Math.log2, range: [2 ** -100, 2 ** 126], error: 1.8, worst: [0.7, 1.42] },
} as const satisfies Readonly<Record<string, PortableFunction>>;

export type FunctionName = keyof typeof FUNCTIONS;

const CALLS: Readonly<Record<FunctionName, string>> = {
  keep4: 'keep4(x)',
  settle4: 'settle4(x)',
  rounded4: 'rounded4(x)',
  reciprocal4: 'reciprocal4(x)',
  inverseSquareRoot:
    'vec4f(inverseSquareRoot(x.x), inverseSquareRoot(x.y), inverseSquareRoot(x.z), inverseSquareRoot(x.w))',
  squareRoot4: 'squareRoot4(x)',
  exp2Of4: 'exp2Of4(x)',
  exp2Less4: 'exp2Less4(x, bitcast<vec4f>(m[id.x]))',
  log2Of: 'vec4f(log2Of(x.x), log2Of(x.y), log2Of(x.z), log2Of(x.w))',
};

/** Every NaN is written as one: which one an operation gives is the adapter's. */
const PROBE = `//! import arithmetic
@group(0) @binding(0) var<storage, read_write> x: array<vec4u>;
@group(0) @binding(1) var<storage, read> m: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4u>;
@group(0) @binding(3) var<uniform> first: u32;

@compute @workgroup_size(256)
fn count(@builtin(global_invocation_id) id: vec3u) { x[id.x] = vec4u(first + 4u * id.x) + vec4u(0u, 1u, 2u, 3u); }
${Object.entries(CALLS)
  .map(
    ([name, call]) => `
@compute @workgroup_size(256)
fn call_${name}(@builtin(global_invocation_id) id: vec3u) {
  let x = bitcast<vec4f>(x[id.x]);
  let result = bitcast<vec4u>(${call});
  out[id.x] = select(result, vec4u(NOT_A_NUMBER), (result & vec4u(0x7fffffffu)) > vec4u(INFINITE));
}`,
  )
  .join('')}`;

/** The bits that the host writes for a result. */
export function plainBits(result: number): number {
  return Number.isNaN(result) ? 0x7fc00000 : bits(result);
}

/** Calls the functions on an adapter, for a fixed number of inputs at a time: a multiple of 1024. */
export class Probe {
  private constructor(
    private readonly harness: GpuHarness,
    private readonly kernels: KernelCache,
    private readonly count: number,
    private readonly x: View,
    private readonly m: View,
    private readonly out: View,
  ) {}

  /** `texts`: the shaders whose functions are called. */
  static async create(harness: GpuHarness, count: number, texts: ShaderTexts = loadShaders()): Promise<Probe> {
    const kernels = new KernelCache(harness.gpu, { ...texts, probe: PROBE });
    const [x, m, out] = [await harness.zeros(count), await harness.zeros(count), await harness.zeros(count)];
    return new Probe(harness, kernels, count, x, m, out);
  }

  /** Inputs: `x`, and `m` where the function takes one. */
  write(x: Uint32Array, m: Uint32Array): void {
    this.harness.gpu.write(this.x, x);
    this.harness.gpu.write(this.m, m);
  }

  /** Inputs: the numbers of bits first, first + 1, ... */
  async writeFrom(first: number): Promise<void> {
    await this.#run('count', { x: this.x }, { first: [first] });
  }

  async call(name: FunctionName): Promise<Uint32Array> {
    const { x, m, out } = this;
    await this.#run(`call_${name}`, { x, out, ...(name === 'exp2Less4' && { m }) });
    return this.harness.words(this.out);
  }

  async #run(entry: string, bindings: Record<string, View>, uniforms?: Record<string, number[]>): Promise<void> {
    const list = new DispatchList();
    const dispatch = { shader: 'probe', entry, constants: {}, bindings, groups: [this.count / 1024] as const };
    // The define alone for `count`, which computes no float.
    list.add(entry === 'count' ? { ...dispatch, uniforms, defines: ['portable'] } : portably(dispatch));
    await list.prepare(this.kernels);
    list.submit(this.harness.gpu);
  }
}
