/** What a worker's mean step is made of, in milliseconds. The four add up to the step. */
export interface StepParts {
  readonly computeMs: number;
  readonly uploadMs: number;
  readonly downloadMs: number;
  readonly waitMs: number;
}

/**
 * The parts of a step of `stepMs`, which the coordinator has timed, from what workers say of the same steps, on average.
 * Workers count from upload to upload and the coordinator from begin to end, so what they say of their idle time belongs
 * in part to the step before, and of what does not fit the idle parts give way: waiting is what is left of the step.
 */
export function stepParts(stepMs: number, said: Omit<StepParts, 'waitMs'>): StepParts {
  // In hundredths, as they are told, so that they add up as they are told, too.
  const hundredths = (ms: number) => Math.max(0, Math.round(100 * ms));
  let left = hundredths(stepMs);
  const take = (ms: number) => {
    const taken = Math.min(hundredths(ms), left);
    left -= taken;
    return taken / 100;
  };
  const computeMs = take(said.computeMs);
  const uploadMs = take(said.uploadMs);
  const downloadMs = take(said.downloadMs);
  return { computeMs, uploadMs, downloadMs, waitMs: left / 100 };
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
