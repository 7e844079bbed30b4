import { WIRES, type Wire } from '../../../src/model/wire.js';

/** Virtual time, seeded randomness, and the integers that stand for gradients and weights. */

export class World {
  now = 0;
  #seq = 0;
  readonly #heap: { time: number; seq: number; run: () => void }[] = [];
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e3779b9) >>> 0;
  }

  /** Uniform in [0, 1). */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    return mix(this.#state, 0x1234567) / 2 ** 32;
  }

  integer(from: number, to: number): number {
    return from + Math.floor(this.random() * (to - from + 1));
  }

  chance(p: number): boolean {
    return p > 0 && this.random() < p;
  }

  pick<T>(all: readonly T[]): T {
    return all[this.integer(0, all.length - 1)];
  }

  after(ms: number, run: () => void): void {
    const heap = this.#heap;
    const item = { time: this.now + ms, seq: this.#seq++, run };
    let i = heap.push(item) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(item, heap[parent])) break;
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = item;
  }

  /** Runs the next scheduled event; returns false if there is none. */
  next(): boolean {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return false;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[i] = heap[child];
        i = child;
      }
      heap[i] = last;
    }
    this.now = first.time;
    first.run();
    return true;
  }
}

const before = (a: { time: number; seq: number }, b: { time: number; seq: number }) =>
  a.time < b.time || (a.time === b.time && a.seq < b.seq);

/** A hash of two 32-bit integers. */
export function mix(a: number, b: number): number {
  let h = Math.imul(a ^ 0x85ebca6b, 0xcc9e2d51) ^ Math.imul(b + 0x7ed55d16, 0x1b873593);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  h ^= h >>> 12;
  h = Math.imul(h, 0x297a2d39);
  return (h ^ (h >>> 15)) >>> 0;
}

export const hashOf = (values: ArrayLike<number>): number => {
  let h = 1;
  for (let i = 0; i < values.length; i++) h = mix(h, values[i]);
  return h;
};

/** The gradient of one micro-batch for one bucket with weights of this hash. Other weights give another gradient. */
export const gradient = (weightsHash: number, step: number, microBatch: number, bucket: number): number =>
  (mix(mix(weightsHash, step), mix(microBatch, bucket)) % 2 ** 20) - 2 ** 19;

/** The loss of one micro-batch of an evaluation. */
export const evaluationLoss = (weightsHash: number, evaluation: number, microBatch: number): number =>
  mix(mix(weightsHash, 0x6576616c), mix(evaluation, microBatch)) % 2 ** 20;

export const initialWeight = (seed: number, bucket: number): number => mix(seed, bucket) | 0;

/** The owner's update of one bucket. `norm` is 0 without clipping. */
export const updated = (weight: number, sum: number, norm: number, step: number): number =>
  (Math.imul(weight, 31) + sum + Math.imul(norm, 17) + step) | 0;

export interface Shape {
  readonly seed: number;
  readonly steps: number;
  readonly microBatches: number;
  readonly parameterBuckets: number;
  readonly clips: boolean;
  /** Micro-batches of the evaluation after each step; 0: none. */
  readonly evaluationMicroBatches: number;
}

/** The wire of a run, which decides how large its frames are. */
export const wireOf = ({ seed }: Pick<Shape, 'seed'>): Wire => WIRES[mix(seed, 0x77697265) % WIRES.length];

/** The result of a run as one number: weights and losses. */
export function digestOf(weights: ArrayLike<number>, losses: ArrayLike<number>): number {
  return mix(hashOf(weights), hashOf(losses));
}

/** The same run as a plain loop. */
export function plainDigest(shape: Shape): number {
  const { parameterBuckets: P, microBatches, steps } = shape;
  let weights = Int32Array.from({ length: P }, (_, b) => initialWeight(shape.seed, b));
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const hash = hashOf(weights);
    const sums = Array.from({ length: P + 1 }, (_, b) => {
      let sum = 0;
      for (let m = 0; m < microBatches; m++) sum += gradient(hash, step, m, b);
      return sum;
    });
    const norm = shape.clips ? hashOf(sums.slice(0, P)) : 0;
    weights = weights.map((w, b) => updated(w, sums[b], norm, step));
    losses.push(sums[P]);
    if (shape.evaluationMicroBatches === 0) continue;
    const after = hashOf(weights);
    let loss = 0;
    for (let m = 0; m < shape.evaluationMicroBatches; m++) loss += evaluationLoss(after, step, m);
    losses.push(loss);
  }
  return digestOf(weights, losses);
}
