/** What a worker has done and where its time went; milliseconds. */
export interface WorkerTotals {
  /** Of the micro-batches of its contributions that are in committed steps. */
  tokens: number;
  /** By the coordinator's clock, from when they were dealt to their last bucket. */
  workMs: number;
  /** As the worker says, and together no more than has passed. */
  computeMs: number;
  uploadMs: number;
  downloadMs: number;
  waitMs: number;
}

export function emptyTotals(): WorkerTotals {
  return { tokens: 0, workMs: 0, computeMs: 0, uploadMs: 0, downloadMs: 0, waitMs: 0 };
}
