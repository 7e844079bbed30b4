import type { RunEvent } from './events.js';

/** Receives a run's events. */
export type Tell = (event: RunEvent) => void;

/** A function that tells lines as notes. */
export function noting(tell: Tell): (text: string) => void {
  return (text) => tell({ event: 'note', text });
}

/** A function that tells the progress of the work called `label`. */
export function progressing(tell: Tell, label: string): (done: number, total: number) => void {
  return (done, total) => tell({ event: 'progress', label, done, total });
}
