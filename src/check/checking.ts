import type { Gpu } from '../gpu/device.js';
import type { Dispatch } from '../gpu/list.js';
import { bitsOf } from '../reference/arithmetic.js';
import type { DropoutWords } from '../reference/dropout.js';
import { type Key, threefry } from '../util/random.js';
import type { Gather, Runs } from './gather.js';

/** At least this many values of every kernel are held against the reference, where it has that many. */
export const PLACES = 200;

/** The same where results are stored rounded to 12 bits: an error of one float32 ulp shows in one of some thousand then. */
export const ROUNDED_PLACES = 4096;

/** A result of a kernel that is not the reference's. */
export interface Mismatch {
  /** What the dispatch is for: its label, or shader and entry. */
  readonly operation: string;
  /** Shader and entry. */
  readonly kernel: string;
  /** The variable of the shader, and where in it. */
  readonly place: string;
  /** Some of the values that the result depends on. */
  readonly inputs: string;
  /** Bits in hexadecimal digits: 8 of a float32, 16 of a 64-bit sum. */
  readonly wanted: string;
  readonly got: string;
}

/** One line of text. */
export function describeMismatch({ operation, kernel, place, inputs, wanted, got }: Mismatch): string {
  return `${operation} (${kernel}) gives ${got} at ${place}, not ${wanted}, from ${inputs}`;
}

/** Ends the check of a dispatch at its first mismatch. */
export class Differs extends Error {
  constructor(readonly mismatch: Mismatch) {
    super(describeMismatch(mismatch));
  }
}

/** Holds one dispatch against the reference: reads what it needs, runs the dispatch once, and compares. */
export type Checker = (c: Checking) => Promise<void>;

/** Values by the names of the shader's variables. */
type Read<N extends string> = Record<N, Float32Array<ArrayBuffer>>;

/** One dispatch while it is checked. */
export class Checking {
  #draws = 0;

  constructor(
    readonly gpu: Gpu,
    readonly dispatch: Dispatch,
    /** Runs the dispatch once. */
    readonly run: () => void,
    private readonly gather: Gather,
    private readonly key: Key,
  ) {}

  /** The override constant `name`. Throws where the dispatch has none. */
  constant(name: string): number {
    const value = this.dispatch.constants[name];
    if (value === undefined) throw new Error(`${this.kernel} has no constant ${name}`);
    return Number(value);
  }

  /** Whether the override constant `name` is there and true. */
  flag(name: string): boolean {
    return this.dispatch.constants[name] === true;
  }

  has(binding: string): boolean {
    return this.dispatch.bindings[binding] !== undefined;
  }

  defines(name: string): boolean {
    return this.dispatch.defines?.includes(name) ?? false;
  }

  get kernel(): string {
    return `${this.dispatch.shader}.${this.dispatch.entry}`;
  }

  /** The dispatch's extent (shaders/extent.wgsl). */
  get extent(): { readonly rows: number; readonly stack: number; readonly accumulate: boolean } {
    const extent = this.dispatch.uniforms?.extent;
    if (extent === undefined) throw new Error(`${this.kernel} has no extent`);
    return { rows: extent[0], stack: extent[1], accumulate: extent[2] !== 0 };
  }

  /** 32-bit values of the binding `name`. */
  valuesIn(name: string): number {
    return this.dispatch.bindings[name].size / 4;
  }

  /** `count` different whole numbers below `below` in rising order, always with 0 and the last; all if there are no more. */
  draw(count: number, below: number): number[] {
    if (count >= below) return Array.from({ length: below }, (_, i) => i);
    const drawn = new Set([0, below - 1]);
    while (drawn.size < count) drawn.add(Math.floor((threefry(this.key, this.#draws++, 0)[0] / 2 ** 32) * below));
    return [...drawn].sort((a, b) => a - b);
  }

  /** The values of these runs of bindings, of each one after another. */
  async read<N extends string>(wanted: Readonly<Record<N, Runs>>): Promise<Read<N>> {
    const names = Object.keys(wanted) as N[];
    const words = await this.gather.read(
      names.map((name) => {
        const view = this.dispatch.bindings[name];
        if (view === undefined) throw new Error(`${this.kernel} does not bind ${name}`);
        return { view, runs: wanted[name] };
      }),
    );
    return Object.fromEntries(names.map((name, i) => [name, new Float32Array(words[i].buffer)])) as Read<N>;
  }

  /** The first `count` numbers of the uniform `name`, unsigned words: of a constant one, or of a bound buffer. */
  async numbers(name: string, count: number): Promise<readonly number[]> {
    const constant = this.dispatch.uniforms?.[name];
    if (constant !== undefined) return constant.slice(0, count);
    return [...wordsOf((await this.read({ [name]: [[0, count]] }))[name])];
  }

  /** The dropout key that the uniform `name` holds. */
  async dropoutKey(name: string): Promise<DropoutWords> {
    const values = (await this.read({ [name]: [[0, 5]] }))[name];
    const [k0, k1, firstSlot, threshold] = wordsOf(values);
    return { k0, k1, firstSlot, threshold, scale: values[4] };
  }

  /**
   * Throws Differs unless two arrays have the same bits; one NaN is as good as another. `place` says where value n is, `inputs`
   * what it depends on.
   */
  same(
    name: string,
    got: Float32Array,
    want: ArrayLike<number>,
    place: (n: number) => string,
    inputs: (n: number) => string,
  ): void {
    if (got.length !== want.length)
      throw new Error(`${this.kernel}: ${got.length} values of ${name}, not ${want.length}`);
    for (let n = 0; n < got.length; n++)
      if (!Object.is(got[n], want[n]))
        this.#differs(name, hex(bitsOf(want[n])), hex(bitsOf(got[n])), place(n), inputs(n));
  }

  /** Like `same`, for words that are no floats. */
  sameWords(
    name: string,
    got: Uint32Array,
    want: ArrayLike<number>,
    place: (n: number) => string,
    inputs: (n: number) => string,
  ): void {
    if (got.length !== want.length)
      throw new Error(`${this.kernel}: ${got.length} words of ${name}, not ${want.length}`);
    for (let n = 0; n < got.length; n++)
      if (got[n] !== want[n]) this.#differs(name, hex(want[n]), hex(got[n]), place(n), inputs(n));
  }

  /** Like `same`, for 64-bit sums by their words. What is undefined is not compared. */
  sameSums(
    { low, high }: Sums,
    want: readonly (bigint | undefined)[],
    place: (n: number) => string,
    inputs: (n: number) => string,
  ): void {
    const [l, h] = [wordsOf(low), wordsOf(high)];
    for (const [n, sum] of want.entries()) {
      if (sum === undefined) continue;
      const wanted = BigInt.asUintN(64, sum).toString(16).padStart(16, '0');
      const got = hex(h[n]) + hex(l[n]);
      if (got !== wanted) this.#differs('low, high', wanted, got, place(n), inputs(n));
    }
  }

  #differs(name: string, wanted: string, got: string, place: string, inputs: string): never {
    const operation = this.dispatch.label ?? this.kernel;
    throw new Differs({ operation, kernel: this.kernel, place: `${name} ${place}`, inputs, wanted, got });
  }
}

/** The low and high words of 64-bit sums, as they are read. */
export interface Sums {
  readonly low: Float32Array<ArrayBuffer>;
  readonly high: Float32Array<ArrayBuffer>;
}

export function wordsOf(values: Float32Array<ArrayBuffer>): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** Each index as a run of one. */
export function ones(indices: readonly number[]): Runs {
  return indices.map((i) => [i, 1]);
}

/** Some values for a message. */
export function shown(name: string, values: ArrayLike<number>): string {
  const first = Array.from({ length: Math.min(values.length, 3) }, (_, i) => hex(bitsOf(values[i])));
  return `${name} ${first.join(' ')}${values.length > first.length ? ' ...' : ''}`;
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0');
}
