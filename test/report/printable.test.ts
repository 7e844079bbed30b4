import { Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitClassesOf } from '../../src/report/bit-classes.js';
import { describe as linesOf } from '../../src/report/format.js';
import { createReporter } from '../../src/report/progress.js';
import { htmlReport } from '../../src/report/report.js';
import { drawIn } from '../../src/report/svg.js';
import { LONGEST_LINE, printable, printableJson, printableLine } from '../../src/util/printable.js';
import { guardTerminal, withCursor } from '../../src/util/terminal.js';
import { decodeServerMessage } from '../../src/watch/messages.js';

/** Characters that a terminal, a browser or an editor may obey or not show. */
const UNSEEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e00ff}]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/u;

/** A stream that keeps what it gets; with `isTTY`, a terminal. */
class Page extends Writable {
  text = '';
  columns = 80;

  constructor(readonly isTTY = false) {
    super();
  }

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

const HOSTILE = '\u001b[2J\u009b2J\u001b]52;c;cm0=\u0007\r\nadmin    https://evil\u202e\u2066\u200b\ud800';

describe('printable text', () => {
  test.each([
    ['an escape', '\u001b[2J', '␛[2J'],
    ['a control character of 8 bits', '\u009b2J', '�2J'],
    ['a bell, a null and a delete', '\u0007\u0000\u007f', '␇␀␡'],
    ['a return, which lets a line be written over', 'a\rb', 'a␍b'],
    ['what turns the direction of writing', 'a\u202eb\u2066c\u200fd', 'a�b�c�d'],
    ['what is not seen', 'a\u200bb\u00adc\ufeffd\u{e0041}e', 'a�b�c�d�e'],
    ['half a character', 'a\ud83db', 'a�b'],
    ['other ends of lines', 'a\u2028b\u0085c', 'a�b�c'],
  ])('printable text shows %s by a sign', (_, text, shown) => expect(printable(text)).toBe(shown));

  test.each([
    'The whale\n\tand the sea',
    'Größe, naïve, Ωmega, 東京, שלום, مرحبا',
    '👩‍🚀 👍🏽 ❤️ 🏳️‍🌈',
    'क्‍ष, ශ්‍රී, می‌خواهم',
    '葛󠄀城',
  ])('printable text leaves %s as it is', (text) => expect(printable(text)).toBe(text));

  test('printable text is one line of bounded length where a line is due, whatever it was', () => {
    expect(printableLine('a\nb\r\nc\td')).toBe('a␊b␍␊c d');
    expect(printableLine('x'.repeat(1e6)).length).toBe(LONGEST_LINE);
    expect(printableLine('whales', 4)).toBe('wha…');
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), fc.integer({ min: 1, max: 60 }), (text, most) => {
        const line = printableLine(text, most);
        expect(line.length).toBeLessThanOrEqual(most);
        expect(line).not.toMatch(/[\n\t]/);
        expect(UNSEEN.test(line)).toBe(false);
        expect(UNSEEN.test(printable(text))).toBe(false);
        expect(printable(printable(text))).toBe(printable(text));
      }),
      { seed: 17, numRuns: 150 },
    );
  });

  test('printable text says the same in JSON, where it is escaped', () => {
    const value = { text: `${HOSTILE}\n\u{e0041}` };
    const json = printableJson(value);
    expect(UNSEEN.test(json)).toBe(false);
    expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(value)));
  });
});

describe('a terminal', () => {
  test('a terminal is guarded whoever writes to it, and moved about by progress bars only', () => {
    const page = new Page();
    guardTerminal(page);
    guardTerminal(page);
    page.write('a\u001b[2Jb\n');
    withCursor(page).write('\u001b[K');
    page.write(Buffer.from('bytes\u001b'));
    expect(page.text).toBe('a␛[2Jb\n\u001b[Kbytes\u001b');
    expect(withCursor(new Page()).text).toBe('');
  });

  test.each([
    ['without a terminal', { json: false }, false],
    ['on a terminal', { json: false }, true],
    ['with --json', { json: true }, false],
  ])('a run %s says nothing that a terminal obeys', async (_, { json }, isTTY) => {
    const [stream, errors] = [new Page(isTTY), new Page()];
    for (const page of [stream, errors]) guardTerminal(page);
    const reporter = createReporter({ json, stream, errors });
    reporter.start({ title: `run ${HOSTILE}`, steps: 9, firstStep: 0, stepsPerEpoch: 9 });
    reporter.note(`note ${HOSTILE}`);
    reporter.event({ event: 'join', worker: HOSTILE, step: 1, reason: HOSTILE });
    reporter.event({ event: 'sample', step: 1, text: HOSTILE });
    reporter.event({ event: 'checkpoint', step: 1, digest: HOSTILE, path: HOSTILE });
    reporter.stop();
    await new Promise((go) => setTimeout(go, 200));
    const text = stream.text + errors.text;
    // The bar's own sequences, which move the cursor and clear its line and those below.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
    const own = isTTY ? text.replace(/\u001b(?:\[\d*[ABCDGJK]|\[\?7[hl]|\[\?25[hl]|[78])/g, '') : text;
    expect(own).toContain('note ');
    expect(UNSEEN.test(own), own).toBe(false);
    expect(text.includes('\u001b[2J')).toBe(false);
    // A sample may begin lines, which are set apart.
    expect(own.split('\n').filter((line) => line.startsWith('admin'))).toEqual([]);
  });
});

describe('what a run leaves', () => {
  const events = [
    { event: 'join', step: 1, worker: HOSTILE, reason: `bit class a-1, ${HOSTILE}` },
    { event: 'leave', step: 2, worker: 'w', reason: 'it left', count: 1234 },
    { event: 'sample', step: 2, text: HOSTILE },
    {
      event: 'workers',
      step: 2,
      workers: [{ name: HOSTILE, adapter: HOSTILE, bitClass: 'a-1', tokens: 5, computeMs: 1 }],
    },
    { event: 'failed', step: 2, reason: HOSTILE },
  ] as const;

  test('a report has seen characters only, and tells how many an event stands for', () => {
    const settings = [['Data', HOSTILE]] as const;
    const html = htmlReport(events as never, {
      name: HOSTILE,
      settings,
      totalSteps: 9,
      tokensPerStep: 1,
      stepsPerEpoch: 9,
    });
    expect(UNSEEN.test(html)).toBe(false);
    expect(html).toContain('it left, the last of 1,234');
    expect(bitClassesOf(events as never).classes).toEqual(['a-1']);
    const info = { title: '', steps: 9, firstStep: 0, stepsPerEpoch: 9 };
    expect(linesOf(events[1], info)).toBe('leave    w   step 2   it left, the last of 1,234');
  });

  test('all texts of a run come to the page as seen characters', () => {
    const run = {
      type: 'run',
      kind: 'past',
      totalSteps: 1,
      tokensPerStep: 1,
      stepsPerEpoch: 1,
      settings: [['Data', HOSTILE]],
      ...Object.fromEntries(['name', 'version', 'model', 'data', 'adapter'].map((key) => [key, HOSTILE])),
    };
    const status = { state: 'failed', reason: HOSTILE, step: 1, mixed: false };
    const none = { secondsLeft: null, tokensPerSecond: null, efficiency: null };
    const update = {
      type: 'update',
      status: { ...status, ...none },
      samples: [{ step: 1, text: `${HOSTILE}\n\tlines stay` }],
      log: [{ at: null, step: 1, kind: 'join', worker: HOSTILE, text: HOSTILE }],
    };
    for (const message of [run, update, { type: 'answer', action: 'stop', text: HOSTILE }]) {
      const decoded = decodeServerMessage(JSON.stringify(message));
      const texts = JSON.stringify(decoded);
      expect(texts).toContain('␛[2J�2J');
      // In JSON, invisible characters are escaped too.
      expect(texts.replaceAll('\\n', '').replaceAll('\\t', '')).not.toMatch(/\\[bfru]/);
      expect(UNSEEN.test(texts)).toBe(false);
    }
  });

  test('plots have texts that XML takes', () => {
    const element = { textContent: '', setAttribute: () => {} };
    drawIn({ createElementNS: () => element as never })('text', {}, HOSTILE);
    expect(UNSEEN.test(element.textContent)).toBe(false);
  });
});
