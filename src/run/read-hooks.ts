import type { NoteEvent, ProgressEvent } from './events.js';

/** What a call that reads a run tells, and what ends it early. */
export interface ReadHooks {
  /** Told of damaged checkpoints, and of work that takes long. */
  onEvent?(event: NoteEvent | ProgressEvent): void;
  readonly signal?: AbortSignal;
}
