import type { Inexact } from '../report/exactness.js';
import type { EvalEvent, MetricsEvent } from '../report/metrics.js';
import type { WorkerTotal } from '../report/workers.js';
import type { Standstill } from '../train/run-clock.js';
import type { Phase } from '../train/trainer.js';
import type { PageSecrets } from '../watch/messages.js';

/** A line for people, such as the memory budget or a warning. */
export interface NoteEvent {
  readonly event: 'note';
  readonly text: string;
}

/** Progress of work before the run, such as reading data. The unit of `done` and `total` depends on the work. */
export interface ProgressEvent {
  readonly event: 'progress';
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

/** The loop begins. */
export interface BeginEvent {
  readonly event: 'begin';
  readonly path: string;
  /** Steps that are done already; 0 for a new run. */
  readonly from: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** A coordinator listens: workers can join from now on. */
export interface ListeningEvent {
  readonly event: 'listening';
  /** The join URL with its token, for other machines. Anybody who has it can join. */
  readonly url: string;
  /** The join URL for processes on this machine. */
  readonly localUrl: string;
  /** The address in `url`; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Workers connect without TLS. */
  readonly plain: boolean;
  /** A note for people on the address: other addresses, or why there is none. */
  readonly remark?: string;
  /** Another program has the default port, so `port` is a different one. */
  readonly isOtherPort: boolean;
  /** SHA-256 of the certificate as browsers show it; absent without TLS. */
  readonly fingerprint?: string;
  /** What is wrong with the user's own certificate, if anything. */
  readonly warning?: string;
  readonly minWorkers: number;
  /** The owner's adapter is a software one: it runs on the processor. */
  readonly software: boolean;
}

/** A page shows the run. Anybody who has `secrets` can watch the run, and control it with the admin token. */
export interface WatchEvent {
  readonly event: 'watch';
  /** The address that the page's server listens on. */
  readonly host: string;
  /** The page's URL without its secrets; absent where browsers take no such address. */
  readonly address?: string;
  readonly secrets: PageSecrets;
  /** The file that holds the admin token. */
  readonly adminFile: string;
}

/** The run pauses or waits for workers (`begins`), or goes on. */
export interface StandstillEvent {
  readonly event: 'standstill';
  readonly why: Standstill;
  readonly begins: boolean;
}

/** What the run does from here on, where that is not known from other events. */
export interface PhaseEvent {
  readonly event: 'phase';
  readonly phase: Phase;
}

/**
 * The end has been asked for. It comes after the current step, or `now` where the step is given up because nobody
 * computes it.
 */
export interface StoppingEvent {
  readonly event: 'stopping';
  readonly now: boolean;
}

/** The speed of each worker since the event before, in tokens a second while at work. */
export interface ThroughputEvent {
  readonly event: 'throughput';
  readonly workers: readonly { readonly name: string; readonly tokensPerSecond: number }[];
}

/** What a cluster did in a run. */
export interface ClusterSummary {
  /** What each worker computed, in all starts of the run. */
  readonly workers: readonly WorkerTotal[];
  /** Counts of troubles in this start, by name; zeros are left out. */
  readonly counters: Readonly<Record<string, number>>;
  /** Workers of other bit classes took part: the digest is not exact. */
  readonly mixed: boolean;
}

/** The run has ended without a failure. */
export interface EndEvent extends RunResult {
  readonly event: 'end';
  readonly totalSteps: number;
  /** It can be resumed for more steps with the same bits. */
  readonly isExtendable: boolean;
  /** The prompt of its samples. */
  readonly prompt: string;
  /** The last evaluation, in nats a token. */
  readonly evaluation?: EvalEvent;
  /** The smallest validation loss of the run, in nats a token, and its step. */
  readonly best?: { readonly step: number; readonly loss: number };
  /** Present where workers computed. */
  readonly cluster?: ClusterSummary;
}

/** The time of every kernel as a text table, after the end of a run with `profile`. */
export interface ProfileEvent {
  readonly event: 'profile';
  readonly table: string;
}

/** The events of a run: those of its metrics.jsonl as they are written there, and those for the screen only. */
export type RunEvent =
  | MetricsEvent
  | NoteEvent
  | ProgressEvent
  | BeginEvent
  | ListeningEvent
  | WatchEvent
  | StandstillEvent
  | PhaseEvent
  | StoppingEvent
  | ThroughputEvent
  | EndEvent
  | ProfileEvent;

/** A run whose loop has begun. */
export interface LiveRun {
  /** Saves a checkpoint of the last finished step at once, also during the next step. Resolves with that step. */
  save(): Promise<number | undefined>;
  /** What is left of the run if the process ends now, as one clause. */
  standing(): string;
  /** Notes in metrics.jsonl that the run's output is not shown any more, and why. Never throws. */
  outputLost(reason: string): void;
}

export interface RunHooks {
  /** Called with each event, in order. An error that it throws ends the run with that error. */
  onEvent?(event: RunEvent): void;
  /** The loop begins. */
  onBegin?(run: LiveRun): void;
  /**
   * Stops the run when aborted: after the current step, with a checkpoint. Before the first step it stops at once: the
   * call throws LT_RUN_STOPPED, and a new run's folder is removed.
   */
  readonly signal?: AbortSignal;
  /**
   * Stops the run when aborted and gives up the current step; finished steps are saved. Where its reason is a
   * LantrainError, the run fails with that error.
   */
  readonly haste?: AbortSignal;
}

/** A run has used a wrong result: since when, from whom, and the checkpoints before and after it. */
export interface InexactRun extends Inexact {
  /** The step of the newest kept checkpoint from before `since`; absent where there is none. */
  readonly good?: number;
  /** The paths of the kept checkpoints from `since` on. */
  readonly bad: readonly string[];
}

/** The result of a run. */
export interface RunResult {
  /** The run's folder. */
  readonly path: string;
  /** The last finished step. It has a checkpoint. */
  readonly step: number;
  /** SHA-256 of weights, moments and step after that step, hex. */
  readonly digest: string;
  /** False where the run was stopped before its last step. */
  readonly complete: boolean;
  /** SHA-256 of the kernel plan, hex. Runs with different plans have different digests. */
  /** SHA-256 of the plan that the digest belongs to; null in portable arithmetic, whose digest depends on no plan. */
  readonly planHash: string | null;
  /** Present where the run used a wrong result of a worker. */
  readonly inexact?: InexactRun;
}
