import type { RunEvent } from './events.js';

/** Takes what a run tells. */
export type Tell = (event: RunEvent) => void;

/** Tells lines. */
export function noting(tell: Tell): (text: string) => void {
  return (text) => tell({ event: 'note', text });
}

/** Tells how far the work of this name has come. */
export function progressing(tell: Tell, label: string): (done: number, total: number) => void {
  return (done, total) => tell({ event: 'progress', label, done, total });
}
