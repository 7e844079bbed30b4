/** Properties of a simulated worker: its speed, its faults and its malice. */
export interface WorkerTraits {
  readonly bitClass: string;
  readonly microBatchMs: number;
  readonly latencyMs: number;
  /** The longest time until it has read a bucket of weights. */
  readonly readMs: number;
  /** Milliseconds between signs of life; 0: none besides its work. */
  readonly lifeMs: number;
  /** Probability of each fault: per contribution, or per received bucket of weights. */
  readonly corrupts: number;
  readonly duplicates: number;
  readonly replays: number;
  /** Probability of a lie per assignment. It lies in all buckets from `liesFrom` on, in the order of sending. */
  readonly lies: number;
  readonly liesFrom: number;
  /** The value that it adds; liars with the same value agree. */
  readonly lie: number;
  readonly impossible: number;
  readonly spoilsWeights: number;
  /** Probability of refusing a micro-batch without cause. */
  readonly refuses: number;
  /**
   * Gives signs of life and answers, but never begins, never ends what it has begun, or never contributes more than its
   * first bucket. `hands-back`: hands back everything unasked.
   */
  readonly stalls: 'no' | 'idles' | 'begins' | 'part' | 'hands-back';
  /** Stalls only after this many good assignments of each connection. */
  readonly stallsAfter: number;
  /** Reconnects when its work is revoked. */
  readonly returns: boolean;
}

/** Whether it does things that no honest worker does. */
export const isBad = (t: WorkerTraits): boolean => t.lies > 0 || t.refuses > 0 || t.stalls !== 'no' || t.impossible > 0;

export const HONEST: Omit<WorkerTraits, 'bitClass' | 'microBatchMs' | 'latencyMs'> = {
  readMs: 30,
  lifeMs: 1000,
  corrupts: 0,
  duplicates: 0,
  replays: 0,
  lies: 0,
  liesFrom: 0,
  lie: 1,
  impossible: 0,
  spoilsWeights: 0,
  refuses: 0,
  stalls: 'no',
  stallsAfter: 0,
  returns: false,
};
