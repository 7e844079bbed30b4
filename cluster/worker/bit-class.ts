import { describeMismatch, type Mismatch } from '../../src/check/checking.js';
import { generatedGrid, generatedValues } from '../../src/check/generated.js';
import { checkGraph } from '../../src/check/portable-check.js';
import { CHECK_SEED, type Portability, provenEngine } from '../../src/check/proven.js';
import { SMALL_RUNS, smallRunDigest, smallRunEngine } from '../../src/check/small-run.js';
import { checkUpdates } from '../../src/check/update-check.js';
import { LantrainError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { valuesIn } from '../../src/gpu/view.js';
import { type ModelConfig, ModelSchema } from '../../src/model/config.js';
import { launchInto } from '../../src/model/graph.js';
import { GridArena } from '../../src/model/grid.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { addMatmul } from '../../src/model/matmul.js';
import { always } from '../../src/model/matmul-plan.js';
import type { Parameter } from '../../src/model/parameters.js';
import type { Plan } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { ExactSums } from '../../src/model/sums.js';
import type { Wire } from '../../src/model/wire.js';
import { Optimizer } from '../../src/train/optimizer.js';
import { deriveKey, fillUniform, type Key, Stream, threefry } from '../../src/util/random.js';
import { WorkerEngine, type WorkerShape } from './worker-engine.js';

/*
 * Adapters of one bit class give the same bits for the same kernels. Hashes of results tell the class, not names. The
 * probe `reference` runs kernels that every plan shares: AdamW, the norm, sums to float32, a matrix product in
 * workgroup tiles. The probe `run` computes one micro-batch of the run's own shape and plan, with the run's dropout,
 * from generated weights.
 *
 * In portable runs both use portable arithmetic, and each adapter has its own kernels: before it answers, a worker holds
 * them against the reference in plain TypeScript (src/check), as the owner does with its own at its start. So `reference`
 * need not cover the operations that `run` and that check cover. An owner on a GPU also takes the small run whose digest is
 * pinned (src/check/small-run.ts), which `doctor` takes everywhere. On a software adapter compiling its kernels takes 15
 * seconds, and a worker need not take it: equal hashes say the same of the worker as of the owner.
 *
 * A coordinator salts both with a nonce that it draws at its start, so a worker with the right hashes has computed them
 * since then. Hashes without a salt name the owner's class, so the name is the same after every start. They are never
 * sent.
 */

/** Fields that are not named here have their defaults. */
const REFERENCE = ModelSchema.parse({
  vocabSize: 61,
  context: 8,
  width: 24,
  layers: 1,
  heads: 3,
  tie: false,
  qkvBias: true,
});

/** Micro-batches of a step, of which the low wire's grid depends. */
const MICRO_BATCHES = 8;

export type Probe = 'reference' | 'run';

/** The full hashes of both probes. */
export interface ProbeHashes {
  readonly reference: string;
  readonly run: string;
}

/** The name of the class of all adapters that compute portable arithmetic. */
export const PORTABLE_CLASS = 'portable';

/** The owner's own bit class. */
export interface OwnBitClass {
  /** Its name in metrics, the same at every start. */
  readonly name: string;
  /** The salt of this start, 32 bytes, and the hashes that an adapter of the class gives with it. */
  readonly nonce: Uint8Array;
  readonly salted: ProbeHashes;
}

/** The owner's bit class as it is found. */
export interface ProbedClass extends OwnBitClass {
  /** The kernels that it was found with: in portable runs perhaps others than those asked for. */
  readonly plan: Plan;
  /** In portable runs: in which operation this adapter's kernels differ from portable arithmetic, if they do. */
  readonly remark?: string;
}

/**
 * The hash of one probe on this adapter, salted with `nonce`. `engine` is the run's engine. It must be idle; its
 * weights are overwritten. `mismatch`: where the engine's kernels differ from portable arithmetic, in a portable run.
 */
export async function bitClassHash(
  probe: Probe,
  nonce: Uint8Array,
  { gpu, shaders }: { readonly gpu: Gpu; readonly shaders: ShaderTexts },
  engine: WorkerEngine,
  { model, shape }: WorkerShape,
  mismatch?: Mismatch,
): Promise<string> {
  const salt = await saltOf(nonce);
  return probe === 'reference'
    ? referenceHash(gpu, shaders, salt, shape)
    : runHash(engine, model, shape.dropout > 0, salt, mismatch);
}

/** The name of a bit class: both unsalted hashes, shortened. */
export function bitClassOf({ reference, run }: ProbeHashes): string {
  return `${reference.slice(0, 12)}-${run.slice(0, 12)}`;
}

/** An engine for the run; in portable runs with kernels that give the reference's bits, if this adapter has such. */
export async function provenWorkerEngine(
  gpu: Gpu,
  shaders: ShaderTexts,
  shape: WorkerShape,
  onProgress?: (done: number, total: number) => void,
): Promise<Portability & { readonly engine: WorkerEngine }> {
  const make = (plan: Plan) => WorkerEngine.create(gpu, shaders, { ...shape, plan }, onProgress);
  if (shape.shape.precision !== 'portable') return { engine: await make(shape.plan), plan: shape.plan };
  const check = (engine: WorkerEngine) => checkGraph(engine.gpt, CHECK_SEED);
  return provenEngine(shape.plan, make, check, () => gpu.releaseAll());
}

/** What keeps this adapter from computing portable arithmetic besides its engine's kernels; undefined where nothing does. */
async function ownDifference(
  gpu: Gpu,
  shaders: ShaderTexts,
  plan: Plan,
  wire: Wire = 'exact',
): Promise<string | undefined> {
  const mismatch = await checkUpdates(new KernelCache(gpu, shaders), CHECK_SEED, wire);
  if (mismatch !== undefined) return describeMismatch(mismatch);
  if (gpu.adapter.software) return undefined;
  try {
    const small = await smallRunDigest(await smallRunEngine(gpu, shaders, plan, wire));
    return small === SMALL_RUNS[wire].digest ? undefined : `a small run ends with the digest ${small.slice(0, 12)}`;
  } catch (error) {
    if (error instanceof LantrainError && error.code === 'LT_TRAIN_NONFINITE') return error.message;
    throw error;
  }
}

/**
 * The class of this adapter and its hashes with `nonce`. For an owner, which has no worker's graph yet. Needs a `gpu`
 * of its own; the caller destroys its device afterwards.
 */
export async function ownBitClass(
  gpu: Gpu,
  shaders: ShaderTexts,
  shape: WorkerShape,
  nonce: Uint8Array,
  onProgress?: (done: number, total: number) => void,
): Promise<ProbedClass> {
  const portable = shape.shape.precision === 'portable';
  const { engine, plan, fast, mismatch } = await provenWorkerEngine(gpu, shaders, shape, onProgress);
  const hashes = async (salt?: Key): Promise<ProbeHashes> => ({
    reference: await referenceHash(gpu, shaders, salt, shape.shape),
    run: await runHash(engine, shape.model, shape.shape.dropout > 0, salt, mismatch),
  });
  const salted = await hashes(await saltOf(nonce));
  if (!portable) return { name: bitClassOf(await hashes()), nonce, salted, plan };
  const difference = mismatch ? describeMismatch(mismatch) : await ownDifference(gpu, shaders, plan, shape.shape.wire);
  if (difference !== undefined) {
    const remark = `the adapter here does not compute portable arithmetic, so it is a bit class of its own: ${difference}`;
    return { name: bitClassOf(await hashes()), nonce, salted, plan, remark };
  }
  const remark = fast && `sums are kept in order here, which is slower: ${describeMismatch(fast)}`;
  return { name: PORTABLE_CLASS, nonce, salted, plan, remark };
}

async function saltOf(nonce: Uint8Array): Promise<Key> {
  const view = new DataView((await sha256(nonce)).buffer);
  return [view.getUint32(0, true), view.getUint32(4, true)];
}

/** The key of the values that a probe generates. */
function probeKey(salt: Key | undefined, seed: number, a = 0): Key {
  const key = deriveKey(seed, Stream.probe, a);
  return salt === undefined ? key : threefry(salt, ...key);
}

async function referenceHash(
  gpu: Gpu,
  shaders: ShaderTexts,
  salt: Key | undefined,
  { precision, wire }: BatchShape,
): Promise<string> {
  const portable = precision === 'portable';
  const kernels = new KernelCache(gpu, shaders);
  const layout = new ParameterLayout(REFERENCE);
  const grid = wire === 'low' ? await GridArena.allocate(gpu, layout) : undefined;
  const sums = await ExactSums.allocate(gpu, layout, grid);
  const adamw = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, decay: 'matrices' } as const;
  const optimizer = await Optimizer.build(kernels, layout, sums, adamw, portable, MICRO_BATCHES);
  for (const [i, parameter] of layout.parameters.entries())
    optimizer.weights.write(gpu, parameter.name, generated(parameter, i, salt));
  optimizer.state.start(0, true);
  const chunks: Uint8Array[] = [];
  for (let step = 1; step <= 3; step++) {
    const [size] = layout.slabSizes;
    const key = probeKey(salt, step);
    const words = Uint32Array.from({ length: size }, (_, i) => threefry(key, i, 0)[0]);
    gpu.write(sums.low.slabs[0], words);
    // Keeps the sign and some bits: gradients of all magnitudes up to 2^7. After a step the low wire's units are large.
    const isSmall = grid !== undefined && step > 1;
    gpu.write(
      sums.high.slabs[0],
      words.map((w) => (w | 0) >> (isSmall ? 31 : 17 + (w & 15))),
    );
    optimizer.submitNorm();
    const report = await sums.takeReport(gpu);
    chunks.push(new Uint8Array(Float64Array.of(report.squares).buffer));
    optimizer.submitUpdate(step, 1e-2, 0.7);
  }
  const { master } = optimizer.state;
  const ofLow = master && grid ? [master, grid] : [];
  for (const { slabs } of [optimizer.weights, optimizer.m, optimizer.v, ...ofLow])
    chunks.push(new Uint8Array(await gpu.read(slabs[0])));
  chunks.push(await referenceProduct(gpu, kernels, salt, portable));
  optimizer.state.release();
  sums.release(gpu);
  return digest(chunks);
}

async function referenceProduct(
  gpu: Gpu,
  kernels: KernelCache,
  salt: Key | undefined,
  portable: boolean,
): Promise<Uint8Array> {
  const [m, n, k] = [19, 23, 67];
  const values = (count: number, index: number) => {
    const out = new Float32Array(count);
    fillUniform(probeKey(salt, index, 1), out, 1);
    return out;
  };
  const [a, b, c] = [
    await gpu.buffer('probe a', m * k),
    await gpu.buffer('probe b', k * n),
    await gpu.buffer('probe c', m * n),
  ];
  gpu.write(a, values(m * k, 1));
  gpu.write(b, values(k * n, 2));
  const list = new DispatchList();
  const output = { kind: 'store', c, ldc: n, gelu: undefined } as const;
  const product = { layout: 'NN', m, n, k, a, lda: k, b, ldb: n, output } as const;
  // Sums that are kept are the same on adapters whose fast kernels are not portable.
  if (portable) launchInto(list, { matmul: always('tile64x64/kept') }, true).matmul(product);
  else addMatmul(list, always('tile64x64'), product);
  await list.prepare(kernels);
  list.submit(gpu);
  const result = new Uint8Array(await gpu.read(c));
  for (const view of [a, b, c]) gpu.release(view);
  return result;
}

async function runHash(
  engine: WorkerEngine,
  model: ModelConfig,
  dropout: boolean,
  salt: Key | undefined,
  mismatch: Mismatch | undefined,
): Promise<string> {
  const { gpu, gpt, layout, packer, sums } = engine;
  for (const [i, parameter] of layout.parameters.entries())
    engine.weights.write(gpu, parameter.name, generated(parameter, i, salt));
  gpt.submitWeights();
  for (const [i, slab] of (sums.grid?.slabs ?? []).entries())
    gpu.write(slab, generatedGrid(valuesIn(slab), probeKey(salt, i, 4)));
  const key = probeKey(salt, 0, 2);
  const ids = (c1: number) =>
    Uint32Array.from({ length: gpt.rows }, (_, i) => threefry(key, i, c1)[0] % model.vocabSize);
  const batch = { tokens: ids(0), targets: ids(1), firstSlot: dropout ? 3 : 0 };
  engine.beginSums();
  const { lossFixed } = await engine.gradient(batch, { seed: 7, step: 5, tokenWeight: 1 / gpt.rows });
  const hashes: Uint8Array[] = [new TextEncoder().encode(String(lossFixed))];
  for (const bucket of packer.buckets.keys()) {
    // No owner knows the probe's grid.
    packer.setCheck(bucket, { a: 0, b: 0 });
    hashes.push(await sha256(await packer.pack(bucket)));
  }
  // The probe may miss what the check has found, such as a difference in evaluation alone.
  if (mismatch !== undefined) hashes.push(new TextEncoder().encode('not portable'));
  return digest(hashes);
}

function generated(parameter: Parameter, index: number, salt: Key | undefined): Float32Array {
  return generatedValues(parameter, probeKey(salt, index, 3), 0.05);
}

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
}

async function digest(chunks: readonly Uint8Array[]): Promise<string> {
  const hashes = await Promise.all(chunks.map(sha256));
  const all = new Uint8Array(hashes.length * 32);
  hashes.forEach((hash, i) => void all.set(hash, 32 * i));
  return hexOf(await sha256(all));
}

function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
