/** Times in milliseconds. None of these changes a result. */
export interface Policy {
  /** The shortest silence that fences a worker. */
  readonly silenceMs: number;
  /** A worker may be silent for this many times the estimate of what it has to do. */
  readonly silenceFactor: number;
  /**
   * Work is late after this many times the estimate of its end. Two and a half: honest times of a step differ by less,
   * and a worker that never ends its share costs a step not much more than three others.
   */
  readonly lateFactor: number;
  /** Work is not late before this time, which a busy machine may take for nothing. */
  readonly lateFloorMs: number;
  /** As `lateFloorMs`, of a worker that has not proved itself: its first work is its slowest. */
  readonly lateUnprovenMs: number;
  /** As `lateFloorMs`, while nobody's speed is known. */
  readonly lateUnknownMs: number;
  /** The first back-off after work that was not done; doubled each time. At least two usual steps long. */
  readonly backOffMs: number;
  readonly longestBackOffMs: number;
  /** The longest one of a person of which another connection has proved itself: honest newcomers may share its address. */
  readonly neighbourBackOffMs: number;
  /** The back-off of a person whose worker left with work, after it had contributed a little: workers die, honestly. */
  readonly leaveMs: number;
  /** A person's bad manners are forgotten at this rate, one at a time. */
  readonly forgetMs: number;
  /** Steps to which a connection has contributed before its failures cost its person nothing. */
  readonly settledSteps: number;
  /** While nobody else can work, a worker that should wait is dealt work this often. */
  readonly necessityMs: number;
  /** Two refuted refusals of a person within this many steps end its connection. */
  readonly refutedSteps: number;
  /** A job that waits this long for its workers says so; and not before `awaitedSteps` usual steps. */
  readonly awaitedMs: number;
  readonly awaitedSteps: number;
  /** What one more assignment costs besides its micro-batches: its upload, mostly. */
  readonly overheadMs: number;
  /** Weight of the newest step in a worker's speed. */
  readonly speedWeight: number;
  /** `send` actions of one worker that wait for `sent`. */
  readonly sendWindow: number;
  /**
   * Buckets whose checksum was wrong at a worker before its connection is closed, in one step; of all connections of a
   * person, four times as many within a minute.
   */
  readonly wrongBuckets: number;
}

export const DEFAULT_POLICY: Policy = {
  silenceMs: 5000,
  silenceFactor: 3,
  lateFactor: 2.5,
  lateFloorMs: 200,
  lateUnprovenMs: 1000,
  lateUnknownMs: 2000,
  backOffMs: 2000,
  longestBackOffMs: 300_000,
  neighbourBackOffMs: 10_000,
  leaveMs: 1000,
  forgetMs: 60_000,
  settledSteps: 3,
  necessityMs: 1000,
  refutedSteps: 100,
  awaitedMs: 5000,
  awaitedSteps: 3,
  overheadMs: 20,
  speedWeight: 0.4,
  sendWindow: 4,
  wrongBuckets: 8,
};
