import type { NoteEvent, ProgressEvent } from '../run/events.js';
import { loadingBar } from './loading.js';
import { remarkLine } from './output.js';

/** Shows on standard error what the library tells before it has a result: notes as lines, long work as a bar each. */
export function shown(): (event: NoteEvent | ProgressEvent) => void {
  const bars = new Map<string, ReturnType<typeof loadingBar>>();
  return (event) => {
    if (event.event === 'note') {
      remarkLine(event.text);
      return;
    }
    const bar = bars.get(event.label) ?? loadingBar(event.label);
    bars.set(event.label, bar);
    bar(event.done, event.total);
  };
}
