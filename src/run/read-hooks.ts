import type { NoteEvent, ProgressEvent } from './events.js';

/** Hooks of a call that reads a run. */
export interface ReadHooks {
  /** Called with a note for each damaged checkpoint, and with the progress of long work. */
  onEvent?(event: NoteEvent | ProgressEvent): void;
  readonly signal?: AbortSignal;
}
