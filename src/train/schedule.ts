import { hostMath, type Precision } from '../model/precision.js';

export const SCHEDULES = ['constant', 'cosine'] as const;

export interface Schedule {
  readonly schedule: (typeof SCHEDULES)[number];
  /** The peak learning rate. */
  readonly learningRate: number;
  /** Updates over which the rate rises linearly from 0. The first one already has a rate above 0. */
  readonly warmupSteps: number;
  /** Updates of the whole run; the cosine ends here at a tenth of the peak. */
  readonly totalSteps: number;
  /** The run's; default f32. */
  readonly precision?: Precision;
}

/** The fraction of the peak at which a cosine schedule ends, as in GPT-3's training (Brown et al. 2020, appendix B). */
const FLOOR = 0.1;

/** The learning rate of update `step` (1 is the first), in float64. */
export function learningRateAt(s: Schedule, step: number): number {
  if (step <= s.warmupSteps) return (s.learningRate * step) / s.warmupSteps;
  if (s.schedule === 'constant') return s.learningRate;
  const span = Math.max(1, s.totalSteps - s.warmupSteps);
  const progress = Math.min(1, (step - s.warmupSteps) / span);
  return s.learningRate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + hostMath(s.precision).cos(Math.PI * progress)));
}
