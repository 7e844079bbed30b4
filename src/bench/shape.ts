import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { memoryBudget } from '../model/activations.js';
import { checkModel, describeModel, type ModelConfig } from '../model/config.js';
import type { MicroBatch } from '../model/gpt.js';
import type { Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { availableMemory } from '../node/memory.js';
import { loadShaders } from '../node/shaders.js';
import { formatBytes } from '../report/format.js';
import { stackedShape } from '../run/fit.js';
import { checkPrecision } from '../run/plan.js';
import { checkBatch, engineOptions, microBatchShape, resolveOptions } from '../run/resolve.js';
import { Engine, initializeWeights } from '../train/engine.js';
import { shapeOptionsOf, type TrainOptions } from '../train/options.js';
import type { PresetName } from '../train/presets.js';
import { deriveKey, Stream, uniformAt } from '../util/random.js';
import type { Progress } from './request.js';

/** Vocabulary size of each tokenizer, without loading it. */
const VOCABULARY: Readonly<Record<TrainOptions['tokenizer'], number>> = { gpt2: 50257, bytes: 256 };

/** The part of a training job that its speed and memory depend on. */
export interface BenchShape {
  readonly options: TrainOptions;
  readonly model: ModelConfig;
  readonly shape: BatchShape;
}

/** The shape that `train` would have with these options. Throws LT_USAGE_MODEL or LT_USAGE_BATCH. */
export function benchShape(preset: PresetName, explicit: Partial<TrainOptions> = {}): BenchShape {
  const options = resolveOptions({ preset, explicit });
  checkBatch(options, options.context);
  const model = { vocabSize: VOCABULARY[options.tokenizer], ...shapeOptionsOf(options) };
  checkModel(model);
  return { options, model, shape: microBatchShape({ model, options }) };
}

/**
 * An engine with fresh weights. Throws LT_GPU_MEMORY where a software adapter would need more memory than the machine
 * has, LT_USAGE_BATCH for an impossible stack.
 */
export async function benchEngine(gpu: Gpu, bench: BenchShape, plan: Plan, progress: Progress): Promise<Engine> {
  const { options, model } = bench;
  checkPrecision(gpu, bench.shape, model.width);
  const shape = stackedShape(gpu, model, bench.shape, plan, options);
  const { totalBytes, samplingBytes } = memoryBudget(model, shape, plan);
  const [needed, available] = [totalBytes - samplingBytes, availableMemory(gpu.adapter)];
  if (available !== undefined && needed > available)
    throw new LantrainError(
      'LT_GPU_MEMORY',
      `the model needs ${formatBytes(needed)} on the adapter, and there is ${formatBytes(available)}; ` +
        `choose a smaller --micro-batch, --context or --preset${shape.recompute ? '' : ', or --recompute'}`,
    );
  const engine = await Engine.create(gpu, loadShaders(), {
    ...engineOptions(bench, shape, plan),
    onProgress: progress('compiling the kernels'),
  });
  initializeWeights(engine, options.weights, options.seed);
  await engine.state.start(0, true);
  return engine;
}

/** One global batch of random windows, as micro-batches. */
export function randomBatches({ options, model, shape }: BenchShape): MicroBatch[] {
  const key = deriveKey(options.seed, Stream.probe);
  const { batch, context } = shape;
  const idAt = (index: number) => Math.floor(uniformAt(key, index) * model.vocabSize);
  /** Id `i` of a micro-batch's tokens, or of its targets with `shift` 1. */
  const of = (index: number, i: number, shift: number) =>
    idAt((index * batch + Math.floor(i / context)) * (context + 1) + (i % context) + shift);
  const ids = (index: number, shift: number) =>
    Uint32Array.from({ length: batch * context }, (_, i) => of(index, i, shift));
  return Array.from({ length: options.batch / shape.batch }, (_, index) => ({
    tokens: ids(index, 0),
    targets: ids(index, 1),
    firstSlot: index * batch,
  }));
}

export function describeShape({ options, model, shape }: BenchShape, stack = 1): string {
  return (
    `${describeModel(model)}; ` +
    `batch ${options.batch} in micro-batches of ${shape.batch}${stack > 1 ? `, ${stack} at once` : ''}, dropout ${options.dropout}${shape.recompute ? ', layers recomputed' : ''}${shape.precision === 'f16' ? ', float16' : ''}${shape.wire === 'low' ? ', low wire' : ''}`
  );
}
