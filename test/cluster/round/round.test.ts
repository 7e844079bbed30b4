import { describe, expect, test } from 'vitest';
import { sets } from '../../../cluster/round/round.js';
import { type Of, RoundHarness, types } from '../simulator/round-harness.js';

describe('a step', () => {
  test('a step updates a bucket when its own set is full, sends it, and commits with the last', () => {
    const harness = new RoundHarness();
    harness.join(1);
    expect(harness.of('send').map((s) => [s.bucket, s.version, s.form])).toEqual([0, 1, 2].map((b) => [b, 0, 'whole']));
    harness.evaluate(1);
    const [assign] = harness.begin();
    expect(sets.idsOf(assign.microBatches)).toEqual([0, 1, 2, 3]);
    expect(types(harness.deliver(assign, 1))).toEqual(['update']);
    expect(harness.do({ type: 'updated', bucket: 1 })).toMatchObject([
      { type: 'send', bucket: 1, version: 1, form: 'difference' },
    ]);
    harness.deliver(assign, 0);
    harness.deliver(assign, 2);
    harness.do({ type: 'updated', bucket: 0 });
    expect(types(harness.do({ type: 'updated', bucket: 2 }))).not.toContain('commit');
    expect(types(harness.deliver(assign, 3))).toEqual(['commit']);
    expect(harness.round.version).toBe(1);
  });

  test('a step with clipping updates nothing before the norm is known', () => {
    const harness = new RoundHarness({ clips: true });
    harness.prove(1);
    const [assign] = harness.begin();
    for (const b of [0, 1, 3]) expect(types(harness.deliver(assign, b))).toEqual([]);
    expect(types(harness.deliver(assign, 2))).toEqual(['norm']);
    expect(types(harness.do({ type: 'norm-known' }))).toEqual(['update', 'update', 'update']);
  });

  test('a step waits for workers, says so once, and goes on', () => {
    const harness = new RoundHarness();
    harness.begin();
    expect(harness.of('log').map((l) => l.note)).toEqual([{ note: 'waiting', for: 'workers' }]);
    expect(harness.do({ type: 'tick' })).toEqual([]);
    harness.join(1);
    expect(harness.of('log').map((l) => l.note.note)).toContain('going-on');
    expect(harness.of('assign')).toHaveLength(1);
  });

  test('a run begins with the asked number of workers, and later goes on with any', () => {
    const harness = new RoundHarness({ minWorkers: 2 });
    harness.join(1);
    expect(harness.begin()).toEqual([]);
    harness.join(2);
    const [first] = harness.of('assign');
    expect(harness.of('assign')).toHaveLength(2);
    harness.do({ type: 'worker-left', worker: 2, reason: 'gone' });
    for (let b = 0; b <= 3; b++) harness.deliver(first, b);
    expect(harness.of('assign')).toHaveLength(1);
  });
});

describe('what comes from outside', () => {
  const forged: [string, object][] = [
    ['a future step', { step: 2 }],
    ['a future incarnation', { incarnation: 3 }],
    ['an assignment that was never dealt', { assignment: 99 }],
    ['an unknown bucket', { bucket: 4 }],
    ['a bucket that is no number', { bucket: Number.NaN }],
    ['a set that was never dealt', { microBatches: sets.setOf(1024, [0, 1]) }],
  ];
  test.each(forged)('%s ends the connection and changes nothing else', (_, changes) => {
    const harness = new RoundHarness();
    harness.join(1);
    const [assign] = harness.begin(1, 1);
    const actions = harness.contribute(assign, 0, changes);
    expect(actions).toContainEqual(expect.objectContaining({ type: 'close', code: 'LT_CLUSTER_IMPOSSIBLE' }));
    expect(types(actions)).toContain('release');
    expect(harness.round.counters).toMatchObject({ impossible: 1, accepted: 0 });
    harness.join(2);
    expect(sets.countOf(harness.of('assign')[0].microBatches)).toBe(1);
  });

  test("an assignment of another worker's ends the connection", () => {
    const harness = new RoundHarness();
    harness.prove(1);
    harness.join(2);
    const [first] = harness.begin();
    harness.contribute(first, 0, { worker: 2 });
    expect(harness.of('close')).toMatchObject([{ worker: 2, code: 'LT_CLUSTER_IMPOSSIBLE' }]);
  });

  test('an earlier step or incarnation and a repetition are dropped and counted', () => {
    const harness = new RoundHarness();
    harness.prove(1);
    const [assign] = harness.begin();
    expect(types(harness.contribute(assign, 0, { incarnation: 1, assignment: 77 }))).toEqual(['release']);
    expect(types(harness.contribute(assign, 0, { step: 0, assignment: 1 }))).toEqual(['release']);
    expect(types(harness.contribute(assign, 0))).toEqual(['add']);
    expect(types(harness.contribute(assign, 0))).toEqual(['release']);
    expect(harness.round.counters).toMatchObject({ stale: 3, impossible: 0, accepted: 2 });
  });

  test('a payload that does not verify is lacking again, and its worker is gone', () => {
    const harness = new RoundHarness();
    harness.prove(1);
    const [assign] = harness.begin();
    for (const b of [0, 1, 3]) harness.deliver(assign, b);
    const [add] = harness.contribute(assign, 2) as [Of<'add'>];
    harness.do({ type: 'added', contribution: add.contribution, ok: false, reason: 'checksum' });
    expect(harness.of('close')).toMatchObject([{ worker: 1, code: 'LT_CLUSTER_PAYLOAD' }]);
    harness.join(2);
    expect(harness.of('assign').map((a) => sets.idsOf(a.buckets))).toEqual([[2]]);
  });

  test('a worker of another bit class marks the run, or is refused', () => {
    const mixed = new RoundHarness();
    mixed.join(1, 'b');
    expect(mixed.of('log').map((l) => l.note.note)).toContain('mixed');
    const exact = new RoundHarness({ exact: true });
    exact.join(1, 'b');
    expect(exact.of('close')).toMatchObject([{ code: 'LT_CLUSTER_BIT_CLASS' }]);
    expect(exact.of('admit')).toEqual([]);
  });
});

describe('takeover', () => {
  test('what a dead worker still owed is recomputed for those buckets only', () => {
    const harness = new RoundHarness();
    harness.prove(1, 2);
    const [first, second] = harness.begin();
    harness.deliver(first, 3);
    harness.do({ type: 'worker-left', worker: 1, reason: 'killed' });
    const [takeover] = harness.of('assign');
    expect(takeover.worker).toBe(2);
    expect(sets.idsOf(takeover.buckets)).toEqual([0, 1, 2]);
    expect(sets.idsOf(takeover.microBatches)).toEqual(sets.idsOf(first.microBatches));
    expect(sets.intersects(takeover.microBatches, second.microBatches)).toBe(false);
  });

  test('a silent worker is fenced off after 5 s, twice as late the next time', () => {
    const harness = new RoundHarness({ policy: { lateFactor: 1000 } });
    harness.prove(1, 2);
    harness.begin(1, 2);
    const fencedAt = (from: number) => {
      for (harness.now = from; harness.now < from + 60_000; harness.now += 500) {
        harness.do({ type: 'life', worker: 2 });
        harness.do({ type: 'tick' });
        if (harness.of('revoke').length > 0) return harness.now - from;
      }
      return undefined;
    };
    // Without measured speeds a micro-batch is assumed to need a second.
    expect(fencedAt(0)).toBe(5000);
    const assigns = harness.of('assign');
    expect(assigns).toMatchObject([{ worker: 2 }]);
    expect(harness.round.counters.fenced).toBe(1);
  });

  test('only what is acknowledged is dealt anew', () => {
    const harness = new RoundHarness();
    harness.prove(1, 2);
    const [assign, other] = harness.begin(1, 16);
    harness.do({ type: 'progress', worker: 1, assignment: assign.assignment, begun: 1 });
    harness.now = 8000;
    for (let b = 0; b <= 3; b++) harness.contribute(other, b);
    const [ask] = harness.of('hand-back');
    expect(sets.idsOf(ask.microBatches)).toEqual([5, 6, 7]);
    expect(harness.of('assign')).toEqual([]);
    const microBatches = sets.setOf(16, [6, 7]);
    harness.do({ type: 'handed-back', worker: 1, assignment: assign.assignment, microBatches });
    expect(harness.of('assign')).toMatchObject([{ worker: 2, microBatches }]);
    harness.contribute(assign, 0, { microBatches: sets.setOf(16, [0, 1, 2, 3, 4, 5]) });
    expect(types(harness.actions)).toEqual(['add']);
  });

  test('a share cannot be handed back once a contribution of it is there', () => {
    const harness = new RoundHarness();
    harness.prove(1);
    const [assign] = harness.begin();
    harness.deliver(assign, 0);
    const microBatches = sets.setOf(4, [3]);
    harness.do({ type: 'handed-back', worker: 1, assignment: assign.assignment, microBatches });
    expect(harness.of('close')).toMatchObject([{ code: 'LT_CLUSTER_IMPOSSIBLE' }]);
  });
});

describe('weights', () => {
  test('who joins in the middle of a step gets the old weights whole, and what is stepped as differences', () => {
    const harness = new RoundHarness();
    harness.prove(1);
    harness.step(1);
    const [assign] = harness.begin(2);
    harness.deliver(assign, 1);
    harness.do({ type: 'updated', bucket: 1 });
    harness.join(2);
    expect(harness.of('send').map((s) => [s.bucket, s.version, s.form])).toEqual([
      [0, 1, 'whole'],
      [1, 1, 'whole'],
      [2, 1, 'whole'],
      [1, 2, 'difference'],
    ]);
  });

  test('a reader one step behind gets differences, one two steps behind the bucket whole', () => {
    const harness = new RoundHarness({ policy: { sendWindow: 1 } });
    harness.prove(1);
    harness.reads = false;
    harness.step(1);
    harness.step(2);
    // One bucket has been on its way since step 1; the others are two versions behind.
    harness.reads = true;
    harness.do({ type: 'sent', worker: 1 });
    const sent = harness.of('send').map((s) => [s.bucket, s.version, s.form]);
    expect(sent.sort()).toEqual([
      [0, 2, 'difference'],
      [1, 2, 'whole'],
      [2, 2, 'whole'],
    ]);
  });

  test('no worker is sent more at a time than its window', () => {
    const harness = new RoundHarness({ policy: { sendWindow: 2 } });
    harness.reads = false;
    harness.join(1);
    expect(harness.of('send')).toHaveLength(2);
    expect(harness.do({ type: 'tick' })).toEqual([]);
    expect(harness.do({ type: 'sent', worker: 1 })).toMatchObject([{ type: 'send', bucket: 2 }]);
  });

  test('a bucket whose checksum was wrong comes whole; too often, and the worker goes', () => {
    const harness = new RoundHarness({ policy: { wrongBuckets: 2 } });
    harness.join(1);
    for (let i = 0; i < 2; i++)
      expect(harness.do({ type: 'mismatch', worker: 1, bucket: 1 })).toMatchObject([
        { type: 'send', bucket: 1, version: 0, form: 'whole' },
      ]);
    harness.do({ type: 'mismatch', worker: 1, bucket: 1 });
    expect(harness.of('close')).toMatchObject([{ code: 'LT_CLUSTER_WEIGHTS' }]);
  });
});

describe('stopping', () => {
  test('a round stops in the middle of a step, or while nothing is in hand, and says nothing more', () => {
    const now = new RoundHarness();
    now.prove(1);
    now.begin();
    now.do({ type: 'stop' });
    expect(now.of('stopped')).toMatchObject([{ step: 1, reason: { why: 'asked' } }]);
    expect(types(now.do({ type: 'tick' }))).toEqual([]);

    const idle = new RoundHarness();
    idle.do({ type: 'stop' });
    expect(idle.of('stopped')).toMatchObject([{ step: 0, reason: { why: 'asked' } }]);
  });

  test('an evaluation that is refused twice is not finite, and the run goes on', () => {
    const harness = new RoundHarness();
    harness.join(1);
    harness.do({ type: 'begin-evaluation', microBatches: 1 });
    for (let i = 0; i < 2; i++) {
      const [{ assignment, microBatches, buckets }] = harness.of('assign');
      expect(sets.idsOf(buckets)).toEqual([3]);
      harness.do({ type: 'refused', worker: 1, assignment, microBatches, reason: 'NaN' });
    }
    expect(harness.of('evaluated')).toMatchObject([{ finite: false }]);
    expect(harness.begin()).toHaveLength(1);
  });
});
