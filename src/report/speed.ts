import type { StepEvent } from './events.js';

type Timed = Pick<StepEvent, 'tokens' | 'tokensPerSecond'>;

/** Seconds of a step, without evaluations, samples, checkpoints, pauses and waiting for workers. */
export function secondsOf({ tokens, tokensPerSecond }: Timed): number {
  const seconds = tokens / tokensPerSecond;
  return Number.isFinite(seconds) ? seconds : 0;
}

export function secondsIn(steps: readonly Timed[]): number {
  return steps.reduce((sum, step) => sum + secondsOf(step), 0);
}

/** Tokens/s over all steps: their tokens over their time. */
export function meanSpeed(steps: readonly Timed[]): number {
  return steps.reduce((sum, { tokens }) => sum + tokens, 0) / secondsIn(steps);
}
