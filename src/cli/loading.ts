import { SingleBar } from 'cli-progress';
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
