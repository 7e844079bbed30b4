import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { MetricsEvent } from '../../src/report/metrics.js';
import { createReporter } from '../../src/report/progress.js';
import { Capture, evaluation, step } from './helpers.js';

const INFO = { title: 'verdict: 162M parameters', steps: 90, firstStep: 0, stepsPerEpoch: 9 };
const DIGEST = 'ab'.repeat(32);
const silence = (seconds: number) => `         the first step compiles the kernels, ${seconds}s`;
const SAMPLE: MetricsEvent = { event: 'sample', step: 9, text: 'Every effort\nmoves \x1b[2Jyou' };

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('--json', () => {
  test('standard output with --json has each event as one line and nothing else', () => {
    const [stream, errors] = [new Capture(true), new Capture()];
    const reporter = createReporter({ json: true, stream, errors });
    const events: MetricsEvent[] = [step(1, 9.8), evaluation(1, 9.7, null), SAMPLE];
    reporter.start(INFO);
    reporter.note('memory: 3 GB');
    for (const event of events) reporter.event(event);
    reporter.stop();
    expect(stream.lines.map((line) => JSON.parse(line))).toEqual(events);
    expect(errors.lines).toEqual([INFO.title, 'memory: 3 GB']);
  });
});

describe('without a terminal', () => {
  test('progress without a terminal comes at most every ten seconds, everything else at once', () => {
    const stream = new Capture();
    let ms = 0;
    const reporter = createReporter({ json: false, stream, now: () => ms });
    reporter.start(INFO);
    for (let at = 1; at <= 9; at++) {
      ms = 4000 * at;
      reporter.event(step(at, 10 - at));
      if (at === 5) reporter.event(evaluation(5, 5.02, 6.434));
    }
    reporter.event(SAMPLE);
    reporter.event({ event: 'checkpoint', step: 9, digest: DIGEST, path: 'runs/a/checkpoints/000009' });
    reporter.event({ event: 'leave', worker: 'w2', step: 9, reason: 'closed' });
    reporter.event({ event: 'done', step: 9, digest: DIGEST, seconds: 3725 });
    reporter.stop();
    expect(stream.lines).toEqual([
      INFO.title,
      'step      1/90   epoch 1/10   loss  9.000     512 tokens/s',
      'step      4/90   epoch 1/10   loss  6.000     512 tokens/s   5m 44s left',
      'eval      5/90   training 5.020   validation 6.434   2.56k tokens seen',
      'step      7/90   epoch 1/10   loss  3.000     512 tokens/s   5m 32s left',
      'sample   step 9',
      '    Every effort',
      '    moves ␛[2Jyou',
      'saved     9/90   runs/a/checkpoints/000009',
      'leave    w2   step 9   closed',
      'done     9 steps in 1h 02m',
    ]);
  });

  test('a wall clock that jumps changes no interval and no forecast', () => {
    const stream = new Capture();
    const reporter = createReporter({ json: false, stream });
    reporter.start(INFO);
    vi.advanceTimersByTime(11_000);
    reporter.event(step(1, 9));
    vi.setSystemTime(Date.now() - 5 * 3600_000);
    vi.advanceTimersByTime(11_000);
    reporter.event(step(2, 8));
    vi.setSystemTime(Date.now() + 9 * 3600_000);
    reporter.event(step(3, 7));
    expect(stream.lines).toEqual([
      INFO.title,
      silence(5),
      'step      1/90   epoch 1/10   loss  9.000     512 tokens/s',
      'step      2/90   epoch 1/10   loss  8.000     512 tokens/s   16m 08s left',
    ]);
  });

  test('a run that goes on counts the time left from its own steps, and not from the first, which compiles', () => {
    const stream = new Capture();
    let ms = 0;
    const reporter = createReporter({ json: false, stream, now: () => ms });
    reporter.start({ ...INFO, firstStep: 80 });
    ms = 60_000;
    reporter.event(step(81, Number.NaN, Number.POSITIVE_INFINITY));
    ms += 12_000;
    reporter.event(step(82, 1));
    expect(stream.lines.slice(1)).toEqual([
      'step     81/90   epoch 9/10   loss    NaN       ? tokens/s',
      'step     82/90   epoch 10/10   loss  1.000     512 tokens/s   1m 36s left',
    ]);
  });

  test('a run that is silent for long says what it does, ever more rarely, until it takes steps', () => {
    const stream = new Capture();
    const reporter = createReporter({ json: false, stream });
    reporter.start(INFO);
    vi.advanceTimersByTime(36_000);
    reporter.event(step(1, 9));
    vi.advanceTimersByTime(60_000);
    reporter.phase('evaluating');
    vi.advanceTimersByTime(6000);
    reporter.phase(undefined);
    vi.advanceTimersByTime(60_000);
    reporter.phase('saving');
    reporter.stop();
    vi.advanceTimersByTime(60_000);
    expect(stream.lines).toEqual([
      INFO.title,
      ...[5, 15, 35].map(silence),
      expect.stringMatching(/^step {6}1\/90/),
      '         evaluating, 5s',
    ]);
  });
});

describe('on a terminal', () => {
  test('evaluations and samples stand whole above one progress line, whatever its length was', () => {
    const stream = new Capture(true, 100);
    const reporter = createReporter({ json: false, stream });
    reporter.start(INFO);
    expect(stream.screen).toEqual([INFO.title, expect.stringContaining('step 0/90')]);
    const above = [INFO.title];
    for (let at = 1; at <= 20; at++) {
      vi.advanceTimersByTime(170);
      reporter.event(step(at, 9 / at, at === 7 ? 123_456 : 9));
      if (at % 5 === 0) {
        reporter.event(evaluation(at, 1, 2));
        above.push(expect.stringMatching(new RegExp(`^eval +${at}/90   training 1.000.*tokens seen$`)));
      }
      if (at === 9) {
        reporter.event(SAMPLE);
        reporter.note('short');
        above.push('sample   step 9', '    Every effort', '    moves ␛[2Jyou', 'short');
      }
      vi.advanceTimersByTime(300);
      expect(stream.screen).toEqual([
        ...above,
        expect.stringMatching(new RegExp(`━*─+ .*step ${at}/90 .*${at > 5 ? ' left' : 'tokens/s'}$`)),
      ]);
    }
    reporter.event({ event: 'done', step: 20, digest: DIGEST, seconds: 9 });
    reporter.stop();
    reporter.stop();
    reporter.note('loss plot: runs/a/loss.svg');
    const done = 'done     20 steps in 9s';
    expect(stream.screen).toEqual([...above, done, 'loss plot: runs/a/loss.svg']);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('a narrow terminal never wraps the progress line, and never cuts the others', () => {
    const stream = new Capture(true, 30);
    const reporter = createReporter({ json: false, stream });
    reporter.start({ ...INFO, title: 'narrow' });
    reporter.event(step(10, 3));
    vi.advanceTimersByTime(1000);
    expect(stream.screen).toEqual(['narrow', 'step 10/90   loss 3.000     5']);
    reporter.note('a sample of many words is wrapped by it');
    expect(stream.screen).toEqual([
      'narrow',
      'a sample of many words is wrap',
      'ped by it',
      expect.stringContaining('step 10/90'),
    ]);
    reporter.stop();
    expect(stream.screen).toEqual(['narrow', 'a sample of many words is wrap', 'ped by it']);
  });
});
