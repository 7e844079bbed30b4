import { median } from './figures.js';

/** What a worker says of a step: milliseconds. */
export interface Said {
  readonly computeMs: number;
  readonly uploadMs: number;
  readonly downloadMs: number;
}

/** What a worker's step is made of. The four add up to the step. */
export interface StepParts extends Said {
  readonly waitMs: number;
}

/**
 * The parts of a step of `stepMs`, the median of what the coordinator timed, from what workers said of each of the same
 * steps: medians as well, and waiting is what is left. Workers count from upload to upload and the coordinator from begin
 * to end, so a download can have begun in the step before; of what does not fit, the later part gives way.
 */
export function stepParts(stepMs: number, said: readonly Said[]): StepParts {
  // In hundredths, as they are told, so that they add up as they are told, too.
  let left = Math.max(0, Math.round(100 * stepMs));
  const take = (key: keyof Said) => {
    const wanted = Math.max(0, Math.round(100 * median(said.map((step) => step[key]))));
    const taken = Math.min(wanted, left);
    left -= taken;
    return taken / 100;
  };
  const computeMs = take('computeMs');
  const uploadMs = take('uploadMs');
  const downloadMs = take('downloadMs');
  return { computeMs, uploadMs, downloadMs, waitMs: left / 100 };
}
