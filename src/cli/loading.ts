import { SingleBar } from 'cli-progress';
import type { ProgressEvent } from '../run/events.js';
import { withCursor } from '../util/terminal.js';

/**
 * A bar on standard error for work before the run, such as reading data; it shows from the first call on and goes when
 * all is done. Where standard error is no terminal, one line says what is going on.
 */
export function loadingBar(label: string): (done: number, total: number) => void {
  let bar: SingleBar | undefined;
  let told = false;
  return (done, total) => {
    if (process.stderr.isTTY) {
      if (bar === undefined) {
        const stream = withCursor(process.stderr);
        bar = new SingleBar({ format: `${label} {bar} {percentage}%`, clearOnComplete: true, stream });
        bar.start(total, done);
      }
      bar.update(done);
      if (done >= total) bar.stop();
    } else if (!told) process.stderr.write(`${label} ...\n`);
    told = true;
  };
}

/** Such a bar for each label of what is told. */
export function loadingBars(): (event: ProgressEvent) => void {
  const bars = new Map<string, (done: number, total: number) => void>();
  return ({ label, done, total }) => {
    const bar = bars.get(label) ?? loadingBar(label);
    bars.set(label, bar);
    bar(done, total);
  };
}
