/** A worker's work and time, in milliseconds. */
export interface WorkerTotals {
  /** Tokens of its micro-batches in committed steps. */
  tokens: number;
  /** By the coordinator's clock, from each assignment to its last bucket. */
  workMs: number;
  /** As the worker reports; the sum is limited to the time that has passed. */
  computeMs: number;
  uploadMs: number;
  downloadMs: number;
  waitMs: number;
}

export function emptyTotals(): WorkerTotals {
  return { tokens: 0, workMs: 0, computeMs: 0, uploadMs: 0, downloadMs: 0, waitMs: 0 };
}
