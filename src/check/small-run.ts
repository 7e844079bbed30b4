import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { ShaderTexts } from '../gpu/kernel.js';
import type { MicroBatch } from '../model/gpt.js';
import { freshTensor } from '../model/initialize.js';
import { parameters } from '../model/parameters.js';
import { type Plan, withKeptSums } from '../model/plan.js';
import type { Wire } from '../model/wire.js';
import { Engine } from '../train/engine.js';
import { threefry } from '../util/random.js';
import { describeMismatch } from './checking.js';
import { checkGraph } from './portable-check.js';
import { CHECK_SEED } from './proven.js';
import { checkUpdates } from './update-check.js';

/*
 * A small run in portable arithmetic with every operation of training: dropout, clipping, an untied head, three updates. Its
 * digest is the same on every adapter that computes portable arithmetic, and in plain TypeScript (test/train/portable.gpu.test.ts
 * holds both against PORTABLE_DIGEST).
 */

export const SMALL_RUN = {
  model: { vocabSize: 37, context: 8, width: 16, layers: 2, heads: 2, tie: false, qkvBias: true },
  adamw: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, decay: 'matrices' },
  clip: 0.5,
  dropout: 0.1,
  seed: 11,
  steps: 3,
  learningRate: 1e-2,
  /** Sequences of a micro-batch. */
  sequences: 2,
  initialization: 'pytorch',
} as const;

/** Micro-batches of a step of the small run. */
const MICRO_BATCHES = 2;

/** The digest (docs/determinism.md) of the small run's state after its last step. */
export const PORTABLE_DIGEST = 'd03886c7184ad4e3fe35c48418d38411818a2ccd3d81028753d8784cd6327aae';

/** The same of the low wire, after a step more: the first one's gradients are still rounded to the finest grid. */
export const PORTABLE_LOW_DIGEST = 'aa4ac493f0ccba243d86692f14d9a99e4bace7297c81ba63fb5efad8f17eebda';

/** What differs between the small runs of the wires: updates, digest, and the parts of the state in the digest's order. */
export const SMALL_RUNS = {
  exact: { steps: SMALL_RUN.steps, digest: PORTABLE_DIGEST, parts: ['weights', 'm', 'v'] },
  low: { steps: SMALL_RUN.steps + 1, digest: PORTABLE_LOW_DIGEST, parts: ['weights', 'master', 'm', 'v'] },
} as const satisfies Record<Wire, unknown>;

/** The micro-batches of a step of the small run. */
export function smallRunBatches(step: number): MicroBatch[] {
  const { model, sequences } = SMALL_RUN;
  const ids = (slot: number, c1: number) =>
    Uint32Array.from(
      { length: sequences * model.context },
      (_, i) => threefry([step, slot], i, c1)[0] % model.vocabSize,
    );
  return Array.from({ length: MICRO_BATCHES }, (_, i) => i * sequences).map((firstSlot) => ({
    tokens: ids(firstSlot, 0),
    targets: ids(firstSlot, 1),
    firstSlot,
  }));
}

/** The fresh weights of the small run, by name. */
export function smallRunWeights(): Map<string, Float32Array> {
  const { model, initialization, seed } = SMALL_RUN;
  return new Map(parameters(model).map((p, i) => [p.name, freshTensor(model, p, i, initialization, seed, 'portable')]));
}

/** The small run's engine, by the kernels of `plan`. */
export function smallRunEngine(gpu: Gpu, shaders: ShaderTexts, plan: Plan, wire: Wire = 'exact'): Promise<Engine> {
  const { model, adamw, clip, dropout, sequences } = SMALL_RUN;
  const shape = { batch: sequences, context: model.context, dropout, precision: 'portable', wire } as const;
  return Engine.create(gpu, shaders, { model, shape, plan, adamw, clip, microBatches: MICRO_BATCHES });
}

/** The digest of the small run by a fresh engine. Throws LT_TRAIN_NONFINITE where the adapter computes no finite values. */
export async function smallRunDigest(engine: Engine): Promise<string> {
  const { model, seed, learningRate } = SMALL_RUN;
  const { gpu, optimizer } = engine;
  const { steps, parts } = SMALL_RUNS[engine.options.shape.wire ?? 'exact'];
  for (const [name, values] of smallRunWeights()) optimizer.weights.write(gpu, name, values);
  await optimizer.state.start(0, true);
  for (let step = 1; step <= steps; step++) await engine.step(smallRunBatches(step), step, seed, learningRate);
  const bytes: ArrayBuffer[] = [];
  for (const part of parts) {
    const arena = optimizer.state[part];
    if (arena === undefined) throw new Error(`the small run has no ${part}`);
    for (const { name } of parameters(model)) bytes.push((await arena.read(gpu, name)).buffer as ArrayBuffer);
  }
  bytes.push(BigUint64Array.of(BigInt(steps)).buffer);
  // As src/checkpoint/digest.ts, which is for Node only.
  const hash = await crypto.subtle.digest('SHA-256', await new Blob(bytes).arrayBuffer());
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What a small run says of an adapter. */
export interface PortableVerdict {
  readonly portable: boolean;
  /** Where its fast kernels differ, so that it takes those that keep their sums in order: one line. */
  readonly fastKernels?: string;
  /** Where it differs, if it is not portable: one line. */
  readonly difference?: string;
}

/**
 * Whether this adapter computes portable arithmetic, by the kernels of `plan` or by those that keep their sums in order: its
 * kernels give the reference's bits, at the small run's shape, and the small run ends with PORTABLE_DIGEST.
 */
export async function portableVerdict(gpu: Gpu, shaders: ShaderTexts, plan: Plan): Promise<PortableVerdict> {
  const differences = new Map<Plan, string | undefined>();
  for (const one of [plan, withKeptSums(plan)]) {
    const difference = await smallRunDifference(gpu, shaders, one);
    differences.set(one, difference);
    if (difference === undefined) break;
  }
  const [fast, kept] = [...differences.values()];
  if (fast === undefined) return { portable: true };
  return kept === undefined ? { portable: true, fastKernels: fast } : { portable: false, difference: kept };
}

async function smallRunDifference(gpu: Gpu, shaders: ShaderTexts, plan: Plan): Promise<string | undefined> {
  const engine = await smallRunEngine(gpu, shaders, plan);
  try {
    const digest = await smallRunDigest(engine).catch((error: unknown) => {
      if (error instanceof LantrainError && error.code === 'LT_TRAIN_NONFINITE') return '';
      throw error;
    });
    const mismatch = (await checkUpdates(engine.kernels, CHECK_SEED)) ?? (await checkGraph(engine.gpt, CHECK_SEED));
    if (mismatch !== undefined) return describeMismatch(mismatch);
    if (digest === PORTABLE_DIGEST) return undefined;
    return `a small run ends with the digest ${digest.slice(0, 12) || 'of nothing, because values are not finite'}`;
  } finally {
    engine.release();
  }
}
