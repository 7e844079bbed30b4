import type { CloseCode, RoundAction, StopReason } from './actions.js';
import type { ContributionId, RoundConfig, RoundCounters, Version, WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import type { RoundNote } from './notes.js';
import type { Person } from './person.js';
import { DEFAULT_POLICY, type Policy } from './policy.js';
import type { IdSet } from './sets.js';
import type { Assignment } from './work.js';

/** A contribution whose bytes the shell holds until it answers `add` or `check`. */
export interface PendingContribution {
  readonly job: Job;
  readonly bucket: number;
  readonly microBatches: IdSet;
  readonly assignment: Assignment;
  /** Workers whose sum this is; empty if the owner's adapter computed or confirmed it. */
  readonly unconfirmed: readonly { readonly worker: WorkerId; readonly person: Person }[];
}

/** Ends a worker's connection; does nothing if it is not a member. */
export type Close = (worker: WorkerId, code: CloseCode, reason: string, now: number) => void;

/** The state that the parts of the round share, and the actions to be returned. */
export class RoundState {
  readonly policy: Policy;
  readonly members = new Map<WorkerId, Member>();
  readonly counters: RoundCounters = {
    accepted: 0,
    stale: 0,
    impossible: 0,
    spoiled: 0,
    refused: 0,
    fenced: 0,
    handedBack: 0,
    audited: 0,
    wrongBuckets: 0,
    late: 0,
    refuted: 0,
  };
  /** Contributions that the shell is adding, and those that it is digesting. */
  readonly adding = new Map<ContributionId, PendingContribution>();
  readonly checking = new Map<ContributionId, PendingContribution>();
  /** Updates committed so far. */
  version: Version;
  job: Job | undefined;
  /** The job has begun: enough workers are connected. */
  isWorking = false;
  /** Whether the owner's adapter can compute. */
  ownerAble: boolean;
  /** Smoothed time of a step; undefined before the first one. */
  usualStepMs: number | undefined;
  /** When the job last made progress. */
  movedAt = 0;
  /** Waiting time after which the awaited workers are named again; undefined until they have been named. */
  awaitedMs: number | undefined;
  #actions: RoundAction[] = [];
  #isStopped = false;

  constructor(
    readonly config: RoundConfig,
    readonly close: Close,
  ) {
    this.policy = { ...DEFAULT_POLICY, ...config.policy };
    this.version = config.version;
    this.ownerAble = config.ownerComputes;
  }

  /** The coordinator itself has work: it adds, digests or updates. */
  get isAtWork(): boolean {
    return this.adding.size > 0 || this.checking.size > 0 || this.job?.allComplete === true;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  moved(now: number): void {
    this.movedAt = now;
    this.awaitedMs = undefined;
  }

  takeActions(): RoundAction[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  emit(action: RoundAction): void {
    if (!this.#isStopped || action.type === 'release') this.#actions.push(action);
  }

  note(note: RoundNote): void {
    if (note.note === 'fence') this.counters.fenced++;
    if (note.note === 'late') this.counters.late++;
    if (note.note === 'refuted') this.counters.refuted++;
    this.emit({ type: 'log', step: this.job?.step ?? this.version, note });
  }

  halt(reason: StopReason): void {
    this.emit({ type: 'stopped', step: this.job?.step ?? this.version, reason });
    this.#isStopped = true;
  }
}
