import type { Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import type { EngineOptions } from './engine.js';
import type { RunConfig } from './run-config.js';

/** What computes the steps of a run: `shape` and `plan` are those of this adapter. */
export function engineOptionsOf(
  { model, options }: Pick<RunConfig, 'model' | 'options'>,
  shape: BatchShape,
  plan: Plan,
): EngineOptions & { readonly microBatches: number } {
  const { beta1, beta2, eps: epsilon, weightDecay, decay, clip, batch, microBatch } = options;
  const adamw = { beta1, beta2, epsilon, weightDecay, decay };
  return { model, shape, plan, adamw, clip, microBatches: batch / microBatch };
}
