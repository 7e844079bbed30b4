import type { NoteEvent, ProgressEvent } from '../run/events.js';
import { loadingBars } from './loading.js';
import { remarkLine } from './output.js';

/** Shows on standard error what the library tells before it has a result: notes as lines, long work as a bar each. */
export function shown(): (event: NoteEvent | ProgressEvent) => void {
  const show = loadingBars();
  return (event) => {
    if (event.event === 'note') remarkLine(event.text);
    else show(event);
  };
}
