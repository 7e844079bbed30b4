/** Tunable numbers of the round; times are in milliseconds. None changes a result. */
export interface Policy {
  /** The shortest silence after which a worker is fenced. */
  readonly silenceMs: number;
  /** A worker may be silent for this many times the estimated time of its work. */
  readonly silenceFactor: number;
  /**
   * Work is late after this many times its estimate. 2.5: honest times of a step differ by less, and a worker that
   * never finishes costs about the time of three assignments.
   */
  readonly lateFactor: number;
  /** Work is never late before this time, because a busy machine can lose that much by chance. */
  readonly lateFloorMs: number;
  /** Like `lateFloorMs`, for a worker that has not proved itself: its first work is its slowest. */
  readonly lateUnprovenMs: number;
  /** Like `lateFloorMs`, while nobody's speed is known. */
  readonly lateUnknownMs: number;
  /** The first back-off after work that was not done; doubled each time. At least two usual steps long. */
  readonly backOffMs: number;
  readonly longestBackOffMs: number;
  /** The longest back-off of a person with a proven connection: honest newcomers may share its address. */
  readonly neighbourBackOffMs: number;
  /** The back-off of a person whose worker left with work after a few contributions: honest workers die, too. */
  readonly leaveMs: number;
  /** Time after which one offence of a person is forgotten. */
  readonly forgetMs: number;
  /** After contributions to this many steps, a connection's failures cost its person nothing. */
  readonly settledSteps: number;
  /** While nobody else can work, a worker that should wait is dealt work at this interval. */
  readonly necessityMs: number;
  /** Two refuted refusals of a person within this many steps end the refuser's connection. */
  readonly refutedSteps: number;
  /** A job names the workers that it waits for after this time, but not before `awaitedSteps` usual steps. */
  readonly awaitedMs: number;
  readonly awaitedSteps: number;
  /** Cost of one more assignment besides its micro-batches, mostly the upload. */
  readonly overheadMs: number;
  /** Weight of the newest step in a worker's speed. */
  readonly speedWeight: number;
  /** Largest number of `send` actions of one worker without a `sent`. */
  readonly sendWindow: number;
  /**
   * Wrong buckets in one step after which a worker's connection is closed. For all connections of a person: four times
   * as many within a minute.
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
