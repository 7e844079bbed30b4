import { createHash } from 'node:crypto';
import type { Gpu } from '../../src/gpu/device.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import type { Precision } from '../../src/model/precision.js';
import type { Wire } from '../../src/model/wire.js';
import { loadShaders } from '../../src/node/shaders.js';
import { Engine, type EngineOptions } from '../../src/train/engine.js';
import { type Golden, goldenBatch } from '../reference/golden.js';

export interface GoldenEngineOptions {
  /** Sequences of a micro-batch. */
  readonly microBatch: number;
  readonly dropout?: number;
  readonly plan?: Partial<Plan>;
  readonly clip?: number;
  readonly recompute?: boolean;
  readonly precision?: Precision;
  readonly wire?: Wire;
  readonly stack?: number;
}

export function engineOptions(gpu: Gpu, golden: Golden, options: GoldenEngineOptions): EngineOptions {
  const { config: model, beta1, beta2, epsilon, weightDecay } = golden;
  const {
    microBatch: batch,
    dropout = 0,
    plan,
    clip = 0,
    recompute = false,
    precision = 'f32',
    wire = 'exact',
    stack,
  } = options;
  return {
    model,
    shape: { batch, context: model.context, dropout, recompute, precision, wire, stack },
    plan: { ...defaultPlan(gpu.adapter), ...plan },
    adamw: { beta1, beta2, epsilon, weightDecay, decay: 'all' },
    clip,
    ...(wire === 'low' && { microBatches: golden.batch / batch }),
  };
}

/** The engine of a golden model, with the weights it starts from. */
export async function goldenEngine(gpu: Gpu, golden: Golden, options: GoldenEngineOptions): Promise<Engine> {
  const engine = await Engine.create(gpu, loadShaders(), engineOptions(gpu, golden, options));
  restart(engine, golden);
  return engine;
}

/** Puts the golden weights back and sets the moments to zero. */
export function restart(engine: Engine, golden: Golden): void {
  const { weights, m, v } = engine.optimizer;
  for (const { name, size } of engine.layout.parameters) {
    weights.write(engine.gpu, name, golden.weights.get(name) ?? new Float32Array());
    for (const moments of [m, v]) moments.write(engine.gpu, name, new Float32Array(size));
  }
  engine.state.start(0, true);
}

/** The global batch of update `step` (0 is the first), cut into micro-batches of `size` sequences. */
export function goldenMicroBatches(golden: Golden, step: number, size: number): MicroBatch[] {
  const { tokens, targets } = goldenBatch(golden, step);
  const each = size * golden.config.context;
  return Array.from({ length: golden.batch / size }, (_, i) => ({
    tokens: tokens.slice(i * each, (i + 1) * each),
    targets: targets.slice(i * each, (i + 1) * each),
    firstSlot: i * size,
  }));
}

/** SHA-256 of weights and both moments. */
export async function stateHash(engine: Engine): Promise<string> {
  const hash = createHash('sha256');
  for (const arena of [engine.optimizer.weights, engine.optimizer.m, engine.optimizer.v])
    for (const { name } of engine.layout.parameters) hash.update(await arena.read(engine.gpu, name));
  return hash.digest('hex');
}
