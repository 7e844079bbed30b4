import { describe, expect, test } from 'vitest';
import type { MetricsEvent } from '../../src/report/metrics.js';
import type { Update } from '../../src/watch/messages.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import type { LiveWorker } from '../../src/watch/server/worker-list.js';
import { FACTS, liveWorkers, stepEvent } from './helpers.js';

const TOKENS = FACTS.tokensPerStep;

/** A run on its own clock, whose steps take a second each. */
class Played {
  now = 0;
  step = 0;
  readonly telemetry: Telemetry;

  constructor(past: readonly MetricsEvent[] = [], facts: Partial<typeof FACTS> = {}) {
    this.telemetry = new Telemetry({ ...FACTS, ...facts }, past, () => this.now);
    this.step = this.telemetry.step;
  }

  train(steps: number, seconds = 1): void {
    for (let i = 0; i < steps; i++) {
      this.now += 1000 * seconds;
      this.telemetry.event({ ...stepEvent(++this.step), tokensPerSecond: TOKENS / seconds });
    }
  }

  evaluate(seconds: number): void {
    this.now += 1000 * seconds;
    this.telemetry.event({ event: 'eval', step: this.step, trainLoss: 1, valLoss: 1, tokensSeen: 0 });
  }

  get left() {
    return this.telemetry.status.secondsLeft;
  }

  get snapshot(): Update {
    const update = this.telemetry.snapshot().at(-1);
    if (update?.type !== 'update') throw new Error('no update');
    return update;
  }
}

const toGo = (step: number) => FACTS.totalSteps - step;

describe('speed and forecast', () => {
  test('speed and forecast know of no waiting for workers, before the first step or later', () => {
    const run = new Played();
    run.telemetry.state = 'waiting';
    run.now += 3_600_000;
    expect(run.telemetry.status).toMatchObject({ state: 'waiting', secondsLeft: null, tokensPerSecond: null });
    run.telemetry.state = 'running';
    run.train(10);
    expect(run.left).toBe(toGo(10));
    run.telemetry.state = 'waiting';
    run.now += 600_000;
    expect(run.telemetry.status).toMatchObject({ state: 'waiting', secondsLeft: null, tokensPerSecond: null });
    run.telemetry.state = 'running';
    expect(run.left).toBe(toGo(10));
    run.train(3);
    expect(run.left).toBe(toGo(13));
    expect(run.telemetry.status.tokensPerSecond).toBe(TOKENS);
  });

  test('speed and forecast know of no pause', () => {
    const run = new Played();
    run.train(5);
    run.telemetry.paused = true;
    run.now += 900_000;
    expect(run.telemetry.status).toMatchObject({ state: 'paused', secondsLeft: null, tokensPerSecond: null });
    run.telemetry.paused = false;
    run.train(1);
    expect(run.telemetry.status).toMatchObject({ state: 'running', secondsLeft: toGo(6), tokensPerSecond: TOKENS });
  });

  test('speed and forecast are not forgotten with every control that is asked for', () => {
    const run = new Played();
    run.train(5);
    run.telemetry.paused = false;
    expect(run.left).toBe(toGo(5));
  });

  test('speed and forecast take evaluations for what they cost on the average, not for the last minute', () => {
    const run = new Played();
    run.train(1);
    run.evaluate(40);
    expect(run.left).toBeNull();
    run.train(99);
    expect(run.left).toBe(toGo(100));
    run.evaluate(40);
    for (let i = 0; i < 3; i++) {
      run.train(100);
      run.evaluate(40);
    }
    run.train(1);
    // 40 s for each 100 steps.
    expect(run.left).toBe(Math.round(1.4 * toGo(401)));
    expect(run.telemetry.status.tokensPerSecond).toBe(TOKENS);
  });

  test('speed and forecast follow steps that have become slower', () => {
    const run = new Played();
    run.train(500);
    run.train(100, 3);
    expect(run.left).toBe(3 * toGo(600));
  });

  test('the speed of a run that is over is that of the whole run', () => {
    const run = new Played();
    run.train(60);
    run.train(20, 4);
    run.telemetry.event({ event: 'done', step: 80, digest: 'd', seconds: 1 });
    expect(run.telemetry.status).toMatchObject({ state: 'done', secondsLeft: null, efficiency: null });
    expect(run.telemetry.status.tokensPerSecond).toBeCloseTo((80 * TOKENS) / 140, 1);
  });

  test('speed and forecast say nothing of a start before its first step, and nothing of the starts before it', () => {
    const past = [1, 2, 3].map((step) => ({ ...stepEvent(step), tokensPerSecond: 9e6 }));
    const run = new Played(past);
    run.telemetry.state = 'running';
    expect(run.telemetry.status).toMatchObject({ step: 3, secondsLeft: null, tokensPerSecond: null });
    run.train(2);
    expect(run.telemetry.status).toMatchObject({ step: 5, secondsLeft: toGo(5), tokensPerSecond: TOKENS });
  });

  test('speed and forecast do not take one worker for two when another has just left', () => {
    const run = new Played();
    let names = ['a', 'b'];
    const worker = (name: string): LiveWorker => ({
      ...liveWorkers(1, 0)[0],
      id: name === 'a' ? 1 : 2,
      name,
      totals: {
        workMs: 1000 * run.step,
        computeMs: 1000 * run.step,
        uploadMs: 0,
        downloadMs: 0,
        waitMs: 0,
        tokens: (TOKENS / 2) * run.step,
      },
    });
    run.telemetry.live = { workers: () => names.map(worker), times: () => ({ sumMs: 0, updateMs: 0 }) };
    for (let i = 0; i < 5; i++) {
      run.train(1);
      run.telemetry.update();
    }
    expect(run.telemetry.status.efficiency).toBeCloseTo(1, 5);
    names = ['a'];
    for (let i = 0; i < 3; i++) {
      run.train(1, 2);
      run.telemetry.update();
      expect(run.telemetry.status.efficiency ?? 0).toBeLessThanOrEqual(1.001);
    }
  });
});

describe('workers', () => {
  const WORKER = { name: 'worker-1', adapter: 'NVIDIA RTX 4070', bitClass: 'a3f082fd8f0e-85729a31a95a' };
  const workers = (step: number, ...all: readonly (typeof WORKER & { tokens: number })[]): MetricsEvent => ({
    event: 'workers',
    step,
    workers: all.map((one) => ({ ...one, computeMs: 1000 })),
  });

  test('workers have what they computed in all starts, whether they are there or not', () => {
    const other = { ...WORKER, name: 'gone' };
    const past = [
      stepEvent(1),
      workers(1, { ...WORKER, tokens: 100 }, { ...other, tokens: 40 }),
      stepEvent(2),
      workers(2, { ...WORKER, tokens: 1000 }),
    ];
    const run = new Played(past);
    run.telemetry.live = {
      workers: () => liveWorkers(2, 10),
      departed: () => [{ ...other, tokens: 2, computeMs: 1 }],
      times: () => ({ sumMs: 0, updateMs: 0 }),
    };
    expect(run.snapshot.workers?.map(({ name, state, tokens }) => [name, state, tokens])).toEqual([
      ['worker-1', 'computing', 1300],
      ['worker-2', 'computing', 210],
      ['gone', 'left', 42],
    ]);
    const ended = new Played(past, { kind: 'past' });
    expect(ended.snapshot.workers?.map(({ name, tokens }) => [name, tokens])).toEqual([
      ['worker-1', 1100],
      ['gone', 40],
    ]);
  });

  test('workers leave the run mixed when they go, and in later starts', () => {
    const mixed: MetricsEvent = {
      event: 'mixed',
      step: 1,
      worker: 'x',
      reason: "bit class b-2, the owner's is a-1: y",
    };
    const run = new Played();
    expect(run.telemetry.status.mixed).toBe(false);
    run.telemetry.event(mixed);
    run.telemetry.event({ event: 'leave', step: 1, worker: 'x' });
    expect(run.telemetry.status.mixed).toBe(true);
    expect(new Played([mixed]).telemetry.status.mixed).toBe(true);
  });
});

describe('the history', () => {
  test('the history of a run that was killed and went on has each step once', () => {
    const past = [...[1, 2, 3, 4].map(stepEvent), ...[3, 4, 5].map(stepEvent)];
    const history = new Played(past).telemetry.snapshot()[1];
    if (history.type !== 'history') throw new Error('no history');
    expect(history.columns.step).toEqual([1, 2, 3, 4, 5]);
    const { seconds } = history.columns;
    expect(seconds).toEqual(seconds.toSorted((a, b) => Number(a) - Number(b)));
  });

  test('the history keeps the spikes of evaluations, speeds and norms, however many there are', () => {
    const run = new Played();
    for (let i = 0; i < 4000; i++) {
      const spike = i === 2001;
      const speed = spike ? 1 : i === 3001 ? 9e9 : 1000;
      run.telemetry.event({ ...stepEvent(i + 1), tokensPerSecond: speed, gradNorm: spike ? 77 : 1 });
      const valLoss = spike ? 50 : 2;
      run.telemetry.event({ event: 'eval', step: i + 1, trainLoss: i === 1500 ? 0.1 : 2, valLoss, tokensSeen: 0 });
    }
    run.telemetry.update();
    const [, history, update] = run.telemetry.snapshot();
    if (history.type !== 'history' || update.type !== 'update') throw new Error('no history');
    const { columns } = history;
    expect(columns.step.length).toBeLessThanOrEqual(800);
    expect(Math.max(...columns.gradNormMax.map(Number))).toBe(77);
    expect(Math.min(...columns.gradNormMin.map(Number))).toBe(1);
    expect(Math.min(...columns.tokensPerSecondMin.map(Number))).toBe(1);
    expect(Math.max(...columns.tokensPerSecondMax.map(Number))).toBe(9e9);
    const { evaluations = [] } = update;
    expect(evaluations.length).toBeLessThanOrEqual(800);
    expect(Math.max(...evaluations.map(({ val }) => Number(val)))).toBe(50);
    expect(Math.min(...evaluations.map(({ train }) => Number(train)))).toBe(0.1);
  });
});

describe('the state', () => {
  test.each<[string, MetricsEvent[], object]>([
    ['done', [stepEvent(1), { event: 'done', step: 1, digest: 'd', seconds: 1 }], { state: 'done' }],
    ['stopped', [stepEvent(1), { event: 'stopped', step: 1 }], { state: 'stopped' }],
    ['failed', [stepEvent(1), { event: 'failed', step: 1, reason: 'why' }], { state: 'failed', reason: 'why' }],
    ['killed', [stepEvent(1)], { state: 'past' }],
    ['stopped and gone on with', [{ event: 'stopped', step: 1 }, stepEvent(2)], { state: 'past' }],
  ])('the telemetry tells the state of a run on the disk that was %s', (_, past, status) => {
    expect(new Played(past, { kind: 'past' }).telemetry.status).toMatchObject(status);
  });

  test('the state of a run that goes on is not that of its last end', () => {
    const run = new Played([stepEvent(1), { event: 'failed', step: 1, reason: 'why' }]);
    expect(run.telemetry.status).toMatchObject({ state: 'starting' });
    expect(run.telemetry.status.reason).toBeUndefined();
  });
});
