import type { CloseCode, Policy, RoundAction, RoundConfig, RoundNote, StopReason, WorkerId } from './events.js';
import type { Member } from './member.js';

/** What the parts of the round say to, and ask of, the round around them. */
export interface Table {
  readonly config: RoundConfig;
  readonly policy: Policy;
  readonly members: ReadonlyMap<WorkerId, Member>;
  /** Whether the owner's adapter computes. */
  readonly ownerAble: boolean;
  /** The coordinator is at work itself: it adds or digests. */
  readonly isAtWork: boolean;
  /** Undefined before the first step. */
  readonly usualStepMs: number | undefined;
  emit(action: RoundAction): void;
  note(note: RoundNote): void;
  halt(reason: StopReason): void;
  close(worker: WorkerId, code: CloseCode, reason: string, now: number): void;
}
