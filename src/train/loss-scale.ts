import { z } from 'zod';

/**
 * The dynamic loss scale of mixed precision: gradients are computed times 2 ** exponent, so that small ones are not lost in
 * float16. It is part of the run's state, and it changes only as a function of the data and of itself.
 *
 * A micro-batch whose gradients overflow is computed again with half the scale, until they are finite. The scale is taken out
 * before the sum, so other micro-batches are not affected. So every process gets the same bits for a micro-batch.
 */
export interface LossScale {
  readonly exponent: number;
  /** Steps since the last overflow or the last growth. */
  readonly goodSteps: number;
}

/** The schema in checkpoints and messages. */
export const LossScaleSchema: z.ZodType<LossScale> = z.object({
  exponent: z.number().int().min(0).max(64),
  goodSteps: z.number().int().min(0),
});

export const FIRST_LOSS_SCALE: LossScale = { exponent: 16, goodSteps: 0 };

/** The smallest exponent. An overflow there is not float16's, so the step fails. */
export const LEAST_EXPONENT = 0;
export const MOST_EXPONENT = 24;
/** Steps without overflow after which the scale doubles. */
export const GROWTH_STEPS = 1000;

/**
 * The scale after a step in which micro-batches had their scales halved, `halvings` times in all. The exponent falls by the
 * mean of the halvings, rounded up, so that one step corrects a scale that is far too large.
 */
export function nextLossScale({ exponent, goodSteps }: LossScale, halvings: number, microBatches: number): LossScale {
  if (halvings > 0)
    return { exponent: Math.max(LEAST_EXPONENT, exponent - Math.ceil(halvings / microBatches)), goodSteps: 0 };
  if (goodSteps + 1 < GROWTH_STEPS) return { exponent, goodSteps: goodSteps + 1 };
  return { exponent: Math.min(MOST_EXPONENT, exponent + 1), goodSteps: 0 };
}
