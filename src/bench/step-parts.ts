import { median } from './figures.js';

/** A worker's report on a step, in milliseconds. */
export interface WorkerReport {
  readonly computeMs: number;
  readonly uploadMs: number;
  readonly downloadMs: number;
}

/** The parts of a worker's step, in milliseconds. The four add up to the step. */
export interface StepParts extends WorkerReport {
  readonly waitMs: number;
}

/**
 * The parts of a step: medians over the workers' reports on the same steps, and waiting is the rest. `stepMs`: the
 * median by the coordinator's clock. A worker counts from upload to upload and the coordinator from begin to end, so a
 * download can begin in the step before. Where the parts exceed the step, later ones are shortened.
 */
export function stepParts(stepMs: number, reports: readonly WorkerReport[]): StepParts {
  // In hundredths of a millisecond, as printed, so that the printed figures add up.
  let left = Math.max(0, Math.round(100 * stepMs));
  const take = (key: keyof WorkerReport) => {
    const wanted = Math.max(0, Math.round(100 * median(reports.map((step) => step[key]))));
    const taken = Math.min(wanted, left);
    left -= taken;
    return taken / 100;
  };
  const computeMs = take('computeMs');
  const uploadMs = take('uploadMs');
  const downloadMs = take('downloadMs');
  return { computeMs, uploadMs, downloadMs, waitMs: left / 100 };
}
