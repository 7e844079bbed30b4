/** What a simulated worker is like, and which of its misfortunes or bad manners it has. */
export interface WorkerTraits {
  readonly bitClass: string;
  readonly microBatchMs: number;
  readonly latencyMs: number;
  /** The longest time in which it takes a bucket of weights off the coordinator's hands. */
  readonly readMs: number;
  /** Milliseconds between its signs of life; 0: none but its work. */
  readonly lifeMs: number;
  /** How often it does each of these: per contribution, or per bucket of weights received. */
  readonly corrupts: number;
  readonly duplicates: number;
  readonly replays: number;
  /** Per assignment, in all buckets from the first of `liesFrom` on, in the order in which it sends them. */
  readonly lies: number;
  readonly liesFrom: number;
  /** What it adds: those who add the same agree. */
  readonly lie: number;
  readonly impossible: number;
  readonly spoilsWeights: number;
  /** Refuses each micro-batch with this chance, without cause. */
  readonly refuses: number;
  /**
   * Gives signs of life and answers, and never: begins; ends what it says that it has begun; contributes more than its
   * first bucket. `hands-back`: everything, unasked.
   */
  readonly stalls: 'no' | 'idles' | 'begins' | 'part' | 'hands-back';
  /** Only after this many assignments of each connection that it does well. */
  readonly stallsAfter: number;
  /** Comes back under a new connection when work is taken off it. */
  readonly returns: boolean;
}

/** Whether it does what an honest worker never does, whatever its luck. */
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
