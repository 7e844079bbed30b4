import type { Inexact } from '../report/exactness.js';
import type { EvalEvent, MetricsEvent } from '../report/metrics.js';
import type { WorkerTotal } from '../report/workers.js';
import type { Standstill } from '../train/run-clock.js';
import type { Phase } from '../train/trainer.js';
import type { PageSecrets } from '../watch/messages.js';

/** A line for people that is no metrics event, such as the memory budget or a warning. */
export interface NoteEvent {
  readonly event: 'note';
  readonly text: string;
}

/** Work before the run, such as reading data: `done` of `total`, in units of its own. */
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
  /** The step that it goes on from; 0 for a new run. */
  readonly from: number;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** A coordinator listens: workers may join from here on. */
export interface ListeningEvent {
  readonly event: 'listening';
  /** The join URL with its token, for other machines. Whoever has it can join. */
  readonly url: string;
  /** The same for processes on this machine. */
  readonly localUrl: string;
  /** The address in `url`; IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Workers connect without TLS. */
  readonly plain: boolean;
  /** What to know about the address: which others there are, or why there is none. */
  readonly remark?: string;
  /** The port is not the default one, which another program has. */
  readonly isOtherPort: boolean;
  /** SHA-256 of the certificate as browsers show it; absent without TLS. */
  readonly fingerprint?: string;
  /** What is wrong with a certificate of the user's. */
  readonly warning?: string;
  readonly minWorkers: number;
  /** The owner's adapter is the processor itself. */
  readonly software: boolean;
}

/** A page shows the run. The secrets let whoever has them watch it, or control it. */
export interface WatchEvent {
  readonly event: 'watch';
  /** What the page is served at. */
  readonly host: string;
  /** Absent where browsers take no address of that kind. */
  readonly address?: string;
  readonly secrets: PageSecrets;
  /** The file that holds the admin token. */
  readonly adminFile: string;
}

/** The run begins to stand still, or goes on. */
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

/** The end has been asked for. `now`: what is in hand is given up, as nobody computes it; else after this step. */
export interface StoppingEvent {
  readonly event: 'stopping';
  readonly now: boolean;
}

/** What workers have computed since the last time, in tokens a second while at work. */
export interface ThroughputEvent {
  readonly event: 'throughput';
  readonly workers: readonly { readonly name: string; readonly tokensPerSecond: number }[];
}

/** What a cluster has done in a run. */
export interface ClusterSummary {
  /** What workers have computed in all starts of the run. */
  readonly workers: readonly WorkerTotal[];
  /** Troubles of this start, by name; those that there were. */
  readonly counters: Readonly<Record<string, number>>;
  /** Workers of other bit classes took part: the digest is not exact. */
  readonly mixed: boolean;
}

/** The run has ended, and did not fail. */
export interface EndEvent extends RunResult {
  readonly event: 'end';
  readonly totalSteps: number;
  /** It can go on for more steps with the same bits. */
  readonly isExtendable: boolean;
  /** What samples begin with. */
  readonly prompt: string;
  /** The last evaluation, in nats a token. */
  readonly evaluation?: EvalEvent;
  /** The smallest validation loss of the run, in nats a token, and its step. */
  readonly best?: { readonly step: number; readonly loss: number };
  /** Where others computed. */
  readonly cluster?: ClusterSummary;
}

/** The time of every kernel, as a table of text, after the end of a run that was asked for it. */
export interface ProfileEvent {
  readonly event: 'profile';
  readonly table: string;
}

/** What a run tells: every event of its metrics.jsonl as it is written there, and what is for the screen only. */
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
  /** Saves the last finished step at once, also in the middle of the next one. Resolves with that step. */
  save(): Promise<number | undefined>;
  /** One clause: what is left of the run if the process ends now. */
  standing(): string;
  /** Notes in the metrics that what the run tells is not shown any more, and why. Never throws. */
  outputLost(reason: string): void;
}

export interface RunHooks {
  /** Told in order, as things happen. What it throws ends the run. */
  onEvent?(event: RunEvent): void;
  /** The loop begins. */
  onBegin?(run: LiveRun): void;
  /**
   * Aborted, it ends the run after the step in hand, with a checkpoint; before the first step it ends it at once, with
   * LT_RUN_STOPPED, and a new run leaves nothing behind.
   */
  readonly signal?: AbortSignal;
  /**
   * Aborted, it gives up the step in hand as well; finished steps are saved. Where its reason is a LantrainError, the run
   * fails with that.
   */
  readonly haste?: AbortSignal;
}

/** That a run has used what was found wrong, and the way back before it. */
export interface InexactRun extends Inexact {
  /** The newest kept checkpoint of before; absent where there is none. */
  readonly good?: number;
  /** The kept checkpoints of after, by path. */
  readonly bad: readonly string[];
}

/** How a run has ended. */
export interface RunResult {
  /** The run's folder. */
  readonly path: string;
  /** Its last finished step, which is in a checkpoint. */
  readonly step: number;
  /** SHA-256 of weights, moments and step, hex. */
  readonly digest: string;
  /** False where it was stopped before its last step. */
  readonly complete: boolean;
  /** SHA-256 of the kernel plan, hex: digests of two plans differ. */
  readonly planHash: string;
  /** Absent for a run that used nothing wrong. */
  readonly inexact?: InexactRun;
}
