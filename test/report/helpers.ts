import { Writable } from 'node:stream';
import type { EvalEvent, StepEvent } from '../../src/report/metrics.js';

export const step = (at: number, loss: number, tokensPerSecond = 512): StepEvent => ({
  event: 'step',
  step: at,
  loss,
  tokens: 512,
  tokensPerSecond,
  lr: 4e-4,
  gradNorm: 1,
});

export const evaluation = (at: number, trainLoss: number, valLoss: number | null): EvalEvent => ({
  event: 'eval',
  step: at,
  trainLoss,
  valLoss,
  tokensSeen: 512 * at,
});

/** A stream that keeps what is written to it. */
export class Capture extends Writable {
  text = '';
  constructor(
    readonly isTTY = false,
    public columns = 80,
  ) {
    super({ decodeStrings: false });
  }
  override _write(chunk: string | Buffer, _: string, done: () => void): void {
    this.text += chunk;
    done();
  }
  get lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
  /** The screen of a terminal after all output: its lines without trailing blanks. Throws on an unknown sequence. */
  get screen(): string[] {
    const rows: string[][] = [[]];
    let [x, y] = [0, 0];
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal sequences begin with one
    for (const [token] of this.text.matchAll(/\x1b\[[?0-9;]*[A-Za-z]|\x1b[78]|./gsu)) {
      rows[y] ??= [];
      if (token === '\n') [x, y] = [0, y + 1];
      else if (token === '\r' || token === '\x1b[1G') x = 0;
      else if (token === '\x1b[K' || token === '\x1b[0K') rows[y].length = Math.min(rows[y].length, x);
      else if (token === '\x1b[2K') rows[y] = [];
      else if (token === '\x1b[0J') rows.splice(y, rows.length, rows[y].slice(0, x));
      else if (token === '\x1b7' || token === '\x1b8' || token.startsWith('\x1b[?25')) continue;
      else if (token.startsWith('\x1b')) throw new Error(`unknown sequence ${JSON.stringify(token)}`);
      else {
        if (x >= this.columns) [x, y] = [0, y + 1];
        rows[y] ??= [];
        for (let i = rows[y].length; i < x; i++) rows[y][i] = ' ';
        rows[y][x++] = token;
      }
    }
    const shown = rows.map((row) => row.join('').trimEnd());
    while (shown.at(-1) === '') shown.pop();
    return shown;
  }
}
