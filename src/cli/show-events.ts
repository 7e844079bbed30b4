import type { NoteEvent, ProgressEvent } from '../run/events.js';
import { loadingBars } from './loading.js';
import { remarkLine } from './output.js';

/** Shows events of a library call on standard error: a note as a line, long work as a bar. */
export function showEvents(): (event: NoteEvent | ProgressEvent) => void {
  const show = loadingBars();
  return (event) => {
    if (event.event === 'note') remarkLine(event.text);
    else show(event);
  };
}
