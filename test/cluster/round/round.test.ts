import { describe, expect, test } from 'vitest';
import { sets } from '../../../cluster/round/round.js';
import { Bench, type Of, types } from '../simulator/bench.js';

describe('a step', () => {
  test('a step updates a bucket when its own set is full, sends it, and commits with the last', () => {
    const bench = new Bench();
    bench.join(1);
    expect(bench.of('send').map((s) => [s.bucket, s.version, s.form])).toEqual([0, 1, 2].map((b) => [b, 0, 'whole']));
    bench.evaluate(1);
    const [assign] = bench.begin();
    expect(sets.idsOf(assign.microBatches)).toEqual([0, 1, 2, 3]);
    expect(types(bench.deliver(assign, 1))).toEqual(['update']);
    expect(bench.do({ type: 'updated', bucket: 1 })).toMatchObject([
      { type: 'send', bucket: 1, version: 1, form: 'difference' },
    ]);
    bench.deliver(assign, 0);
    bench.deliver(assign, 2);
    bench.do({ type: 'updated', bucket: 0 });
    expect(types(bench.do({ type: 'updated', bucket: 2 }))).not.toContain('commit');
    expect(types(bench.deliver(assign, 3))).toEqual(['commit']);
    expect(bench.round.version).toBe(1);
  });

  test('a step with clipping updates nothing before the norm is known', () => {
    const bench = new Bench({ clips: true });
    bench.prove(1);
    const [assign] = bench.begin();
    for (const b of [0, 1, 3]) expect(types(bench.deliver(assign, b))).toEqual([]);
    expect(types(bench.deliver(assign, 2))).toEqual(['norm']);
    expect(types(bench.do({ type: 'norm-known' }))).toEqual(['update', 'update', 'update']);
  });

  test('a step waits for workers, says so once, and goes on', () => {
    const bench = new Bench();
    bench.begin();
    expect(bench.of('log').map((l) => l.note)).toEqual([{ note: 'waiting', for: 'workers' }]);
    expect(bench.do({ type: 'tick' })).toEqual([]);
    bench.join(1);
    expect(bench.of('log').map((l) => l.note.note)).toContain('going-on');
    expect(bench.of('assign')).toHaveLength(1);
  });

  test('a run begins with the asked number of workers, and later goes on with any', () => {
    const bench = new Bench({ minWorkers: 2 });
    bench.join(1);
    expect(bench.begin()).toEqual([]);
    bench.join(2);
    const [first] = bench.of('assign');
    expect(bench.of('assign')).toHaveLength(2);
    bench.do({ type: 'worker-left', worker: 2, reason: 'gone' });
    for (let b = 0; b <= 3; b++) bench.deliver(first, b);
    expect(bench.of('assign')).toHaveLength(1);
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
    const bench = new Bench();
    bench.join(1);
    const [assign] = bench.begin(1, 1);
    const actions = bench.contribute(assign, 0, changes);
    expect(actions).toContainEqual(expect.objectContaining({ type: 'close', code: 'LT_CLUSTER_IMPOSSIBLE' }));
    expect(types(actions)).toContain('release');
    expect(bench.round.counters).toMatchObject({ impossible: 1, accepted: 0 });
    bench.join(2);
    expect(sets.countOf(bench.of('assign')[0].microBatches)).toBe(1);
  });

  test("an assignment of another worker's ends the connection", () => {
    const bench = new Bench();
    bench.prove(1);
    bench.join(2);
    const [first] = bench.begin();
    bench.contribute(first, 0, { worker: 2 });
    expect(bench.of('close')).toMatchObject([{ worker: 2, code: 'LT_CLUSTER_IMPOSSIBLE' }]);
  });

  test('an earlier step or incarnation and a repetition are dropped and counted', () => {
    const bench = new Bench();
    bench.prove(1);
    const [assign] = bench.begin();
    expect(types(bench.contribute(assign, 0, { incarnation: 1, assignment: 77 }))).toEqual(['release']);
    expect(types(bench.contribute(assign, 0, { step: 0, assignment: 1 }))).toEqual(['release']);
    expect(types(bench.contribute(assign, 0))).toEqual(['add']);
    expect(types(bench.contribute(assign, 0))).toEqual(['release']);
    expect(bench.round.counters).toMatchObject({ stale: 3, impossible: 0, accepted: 2 });
  });

  test('a payload that does not verify is lacking again, and its worker is gone', () => {
    const bench = new Bench();
    bench.prove(1);
    const [assign] = bench.begin();
    for (const b of [0, 1, 3]) bench.deliver(assign, b);
    const [add] = bench.contribute(assign, 2) as [Of<'add'>];
    bench.do({ type: 'added', contribution: add.contribution, ok: false, reason: 'checksum' });
    expect(bench.of('close')).toMatchObject([{ worker: 1, code: 'LT_CLUSTER_PAYLOAD' }]);
    bench.join(2);
    expect(bench.of('assign').map((a) => sets.idsOf(a.buckets))).toEqual([[2]]);
  });

  test('a worker of another bit class marks the run, or is refused', () => {
    const mixed = new Bench();
    mixed.join(1, 'b');
    expect(mixed.of('log').map((l) => l.note.note)).toContain('mixed');
    const exact = new Bench({ exact: true });
    exact.join(1, 'b');
    expect(exact.of('close')).toMatchObject([{ code: 'LT_CLUSTER_BIT_CLASS' }]);
    expect(exact.of('admit')).toEqual([]);
  });
});

describe('takeover', () => {
  test('what a dead worker still owed is recomputed for those buckets only', () => {
    const bench = new Bench();
    bench.prove(1, 2);
    const [first, second] = bench.begin();
    bench.deliver(first, 3);
    bench.do({ type: 'worker-left', worker: 1, reason: 'killed' });
    const [takeover] = bench.of('assign');
    expect(takeover.worker).toBe(2);
    expect(sets.idsOf(takeover.buckets)).toEqual([0, 1, 2]);
    expect(sets.idsOf(takeover.microBatches)).toEqual(sets.idsOf(first.microBatches));
    expect(sets.intersects(takeover.microBatches, second.microBatches)).toBe(false);
  });

  test('a silent worker is fenced off after 5 s, twice as late the next time', () => {
    const bench = new Bench({ policy: { lateFactor: 1000 } });
    bench.prove(1, 2);
    bench.begin(1, 2);
    const fencedAt = (from: number) => {
      for (bench.now = from; bench.now < from + 60_000; bench.now += 500) {
        bench.do({ type: 'life', worker: 2 });
        bench.do({ type: 'tick' });
        if (bench.of('revoke').length > 0) return bench.now - from;
      }
      return undefined;
    };
    // Nothing is known of speeds: a micro-batch is taken to need a second.
    expect(fencedAt(0)).toBe(5000);
    const assigns = bench.of('assign');
    expect(assigns).toMatchObject([{ worker: 2 }]);
    expect(bench.round.counters.fenced).toBe(1);
  });

  test('only what is acknowledged is dealt anew', () => {
    const bench = new Bench();
    bench.prove(1, 2);
    const [assign, other] = bench.begin(1, 16);
    bench.do({ type: 'progress', worker: 1, assignment: assign.assignment, begun: 1 });
    bench.now = 8000;
    for (let b = 0; b <= 3; b++) bench.contribute(other, b);
    const [ask] = bench.of('hand-back');
    expect(sets.idsOf(ask.microBatches)).toEqual([5, 6, 7]);
    expect(bench.of('assign')).toEqual([]);
    const microBatches = sets.setOf(16, [6, 7]);
    bench.do({ type: 'handed-back', worker: 1, assignment: assign.assignment, microBatches });
    expect(bench.of('assign')).toMatchObject([{ worker: 2, microBatches }]);
    bench.contribute(assign, 0, { microBatches: sets.setOf(16, [0, 1, 2, 3, 4, 5]) });
    expect(types(bench.actions)).toEqual(['add']);
  });

  test('a share cannot be handed back once a contribution of it is there', () => {
    const bench = new Bench();
    bench.prove(1);
    const [assign] = bench.begin();
    bench.deliver(assign, 0);
    const microBatches = sets.setOf(4, [3]);
    bench.do({ type: 'handed-back', worker: 1, assignment: assign.assignment, microBatches });
    expect(bench.of('close')).toMatchObject([{ code: 'LT_CLUSTER_IMPOSSIBLE' }]);
  });
});

describe('weights', () => {
  test('who joins in the middle of a step gets the old weights whole, and what is stepped as differences', () => {
    const bench = new Bench();
    bench.prove(1);
    bench.step(1);
    const [assign] = bench.begin(2);
    bench.deliver(assign, 1);
    bench.do({ type: 'updated', bucket: 1 });
    bench.join(2);
    expect(bench.of('send').map((s) => [s.bucket, s.version, s.form])).toEqual([
      [0, 1, 'whole'],
      [1, 1, 'whole'],
      [2, 1, 'whole'],
      [1, 2, 'difference'],
    ]);
  });

  test('a reader one step behind gets differences, one two steps behind the bucket whole', () => {
    const bench = new Bench({ policy: { sendWindow: 1 } });
    bench.prove(1);
    bench.reads = false;
    bench.step(1);
    bench.step(2);
    // One bucket is on its way since step 1; the others are two versions behind.
    bench.reads = true;
    bench.do({ type: 'sent', worker: 1 });
    const sent = bench.of('send').map((s) => [s.bucket, s.version, s.form]);
    expect(sent.sort()).toEqual([
      [0, 2, 'difference'],
      [1, 2, 'whole'],
      [2, 2, 'whole'],
    ]);
  });

  test('no worker is sent more at a time than its window', () => {
    const bench = new Bench({ policy: { sendWindow: 2 } });
    bench.reads = false;
    bench.join(1);
    expect(bench.of('send')).toHaveLength(2);
    expect(bench.do({ type: 'tick' })).toEqual([]);
    expect(bench.do({ type: 'sent', worker: 1 })).toMatchObject([{ type: 'send', bucket: 2 }]);
  });

  test('a bucket whose checksum was wrong comes whole; too often, and the worker goes', () => {
    const bench = new Bench({ policy: { wrongBuckets: 2 } });
    bench.join(1);
    for (let i = 0; i < 2; i++)
      expect(bench.do({ type: 'mismatch', worker: 1, bucket: 1 })).toMatchObject([
        { type: 'send', bucket: 1, version: 0, form: 'whole' },
      ]);
    bench.do({ type: 'mismatch', worker: 1, bucket: 1 });
    expect(bench.of('close')).toMatchObject([{ code: 'LT_CLUSTER_WEIGHTS' }]);
  });
});

describe('stopping', () => {
  test('a round stops in the middle of a step, or while nothing is in hand, and says nothing more', () => {
    const now = new Bench();
    now.prove(1);
    now.begin();
    now.do({ type: 'stop' });
    expect(now.of('stopped')).toMatchObject([{ step: 1, reason: { why: 'asked' } }]);
    expect(types(now.do({ type: 'tick' }))).toEqual([]);

    const idle = new Bench();
    idle.do({ type: 'stop' });
    expect(idle.of('stopped')).toMatchObject([{ step: 0, reason: { why: 'asked' } }]);
  });

  test('an evaluation that is refused twice is not finite, and the run goes on', () => {
    const bench = new Bench();
    bench.join(1);
    bench.do({ type: 'begin-evaluation', microBatches: 1 });
    for (let i = 0; i < 2; i++) {
      const [{ assignment, microBatches, buckets }] = bench.of('assign');
      expect(sets.idsOf(buckets)).toEqual([3]);
      bench.do({ type: 'refused', worker: 1, assignment, microBatches, reason: 'NaN' });
    }
    expect(bench.of('evaluated')).toMatchObject([{ finite: false }]);
    expect(bench.begin()).toHaveLength(1);
  });
});
