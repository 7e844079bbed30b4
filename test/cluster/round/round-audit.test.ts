import { describe, expect, test } from 'vitest';
import { OWNER, type RoundAction, type RoundConfig, sets } from '../../../cluster/round/round.js';
import { type Of, RoundHarness, types } from '../simulator/round-harness.js';

/** A round with one micro-batch a step, so that one worker has all of it. All workers have proved themselves. */
function harness(config: Partial<RoundConfig>, persons: Record<number, string>): RoundHarness {
  const made = new RoundHarness({ audit: 0.5, ...config });
  for (const [worker, person] of Object.entries(persons)) made.join(Number(worker), 'a', person);
  made.evaluate(Object.keys(persons).length);
  return made;
}

function finish(made: RoundHarness): void {
  for (let b = 0; b < 3; b++) made.do({ type: 'updated', bucket: b });
}

const AUDITED = 0.1;
const NOT_AUDITED = 0.9;

/** Actions that a worker can see. */
const visible = (actions: RoundAction[]) =>
  actions.filter(({ type }) => ['assign', 'hand-back', 'revoke', 'send', 'close', 'admit', 'commit'].includes(type));

describe('what is audited', () => {
  test('an audit shows in nothing that a worker can see before all its buckets are here', () => {
    const seen = [AUDITED, NOT_AUDITED].map((draw) => {
      const made = harness({ ownerComputes: true }, { 1: 'p', 2: 'q' });
      const assigns = made.begin(1, 4);
      const all: RoundAction[] = [];
      for (const bucket of [0, 1, 2]) {
        const [first] = made.contribute(assigns[0], bucket, { draw });
        expect(first.type).toBe(draw === AUDITED ? 'check' : 'add');
        const { contribution } = first as Of<'check'>;
        all.push(...made.actions);
        if (first.type === 'check') all.push(...made.do({ type: 'checked', contribution, digest: 'x' }));
        else all.push(...made.do({ type: 'added', contribution, ok: true }));
        all.push(...made.do({ type: 'tick' }));
      }
      return visible(all);
    });
    expect(seen[0]).toEqual(seen[1]);
  });

  test('the weights show nothing of an audit before the step is complete', () => {
    const made = harness({ ownerComputes: true }, { 1: 'p' });
    const [assign] = made.begin(1, 1);
    for (const bucket of [0, 1, 2]) {
      const [add] = made.contribute(assign, bucket, { draw: NOT_AUDITED }) as [Of<'add'>];
      expect(types(made.summed(add))).toEqual([]);
    }
    const [add] = made.contribute(assign, 3, { draw: NOT_AUDITED }) as [Of<'add'>];
    expect(types(made.summed(add))).toEqual(['update', 'update', 'update']);
  });

  test('an audit covers what had come when its worker leaves; the rest is open again', () => {
    const made = harness({ ownerComputes: true }, { 1: 'p' });
    const [assign] = made.begin(1, 1);
    const [check] = made.contribute(assign, 1, { draw: AUDITED }) as [Of<'check'>];
    made.do({ type: 'checked', contribution: check.contribution, digest: 'x' });
    expect(made.of('assign')).toEqual([]);
    made.do({ type: 'worker-left', worker: 1, reason: 'gone' });
    expect(made.of('assign').map((a) => [a.worker, sets.idsOf(a.buckets)])).toEqual([[OWNER, [1]]]);
    made.join(2, 'a', 'q');
    expect(made.of('assign').map((a) => [a.worker, sets.idsOf(a.buckets)])).toEqual([[2, [0, 2, 3]]]);
  });

  test('what nobody can confirm is used unaudited, and said to be', () => {
    const made = harness({}, { 1: 'p', 2: 'p' });
    const [assign] = made.begin(1, 1);
    expect(types(made.contribute(assign, 0, { draw: AUDITED }))).toEqual(['add']);
    expect(made.notes('unaudited')).toHaveLength(1);
    expect(made.notes('contributed')).toEqual([{ note: 'contributed', person: 'p', step: 1 }]);
  });

  test('what is audited is confirmed by each person with the same chance, and by the owner', () => {
    const counts = new Map<number, number>();
    for (let i = 0; i < 300; i++) {
      // Three connections of one person count as one.
      const made = harness({ ownerComputes: true }, { 1: 'p', 2: 'q', 3: 'r', 4: 'r', 5: 'r' });
      const [assign] = made.begin(1, 1);
      expect(assign.worker).toBe(1);
      made.work(assign, 'right', (0.5 * (i + 0.5)) / 300);
      const [copy] = made.of('assign');
      counts.set(copy.worker, (counts.get(copy.worker) ?? 0) + 1);
    }
    expect(counts.get(OWNER)).toBe(100);
    expect(counts.get(2)).toBe(100);
    expect((counts.get(3) ?? 0) + (counts.get(4) ?? 0) + (counts.get(5) ?? 0)).toBe(100);
  });
});

describe('votes', () => {
  test("the owner's adapter decides between two that differ", () => {
    const made = harness({ ownerComputes: true }, { 1: 'liar', 2: 'honest' });
    const [assign] = made.begin(1, 1);
    // The unused part of the draw chooses the other worker.
    made.work(assign, 'false', 0.49);
    const [copy] = made.of('assign');
    expect(copy.worker).toBe(2);
    made.work(copy, 'right');
    const [decider] = made.of('assign');
    expect(decider.worker).toBe(OWNER);
    made.work(decider, 'right');
    expect(made.of('close')).toMatchObject([{ worker: 1, code: 'LT_CLUSTER_AUDIT' }]);
    expect(made.of('add')).toHaveLength(4);
    expect(made.notes('inexact')).toEqual([]);
    expect(made.notes('contributed')).toEqual([]);
  });

  test('votes count by person: two connections of one liar do not outvote an honest worker', () => {
    const made = harness({}, { 1: 'honest', 2: 'liar', 3: 'liar' });
    const [assign] = made.begin(1, 1);
    expect(assign.worker).toBe(1);
    made.work(assign, 'right', AUDITED);
    const [copy] = made.of('assign');
    made.work(copy, 'false');
    expect(made.of('close')).toEqual([]);
    // There is no third person, and no owner's adapter.
    expect(made.of('stopped')).toMatchObject([{ reason: { why: 'audit', workers: [1, copy.worker] } }]);
  });

  test('votes of two persons that agree decide, where the owner cannot, and both are remembered', () => {
    const made = harness({}, { 1: 'p', 2: 'q' });
    const [assign] = made.begin(1, 1);
    made.work(assign, 'right', AUDITED);
    const [copy] = made.of('assign');
    made.work(copy, 'right');
    expect(made.of('add')).toHaveLength(4);
    expect(made.notes('contributed').map((n) => n.note === 'contributed' && n.person)).toEqual(['p', 'q']);
  });

  test('the vote of a third person decides between two others', () => {
    const made = harness({}, { 1: 'liar', 2: 'q', 3: 'r' });
    const [assign] = made.begin(1, 1);
    made.work(assign, 'false', AUDITED);
    const [copy] = made.of('assign');
    made.work(copy, 'right');
    const [third] = made.of('assign');
    expect(new Set([assign.worker, copy.worker, third.worker]).size).toBe(3);
    made.work(third, 'right');
    expect(made.of('close')).toMatchObject([{ worker: 1, code: 'LT_CLUSTER_AUDIT' }]);
  });
});

describe('whoever is found wrong', () => {
  /** A step by worker `worker`, which is audited by the owner's adapter if `draw` says so. */
  function step(made: RoundHarness, n: number, draw: number, sums: string): RoundAction[] {
    const all: RoundAction[] = [];
    const [assign] = made.begin(n, 1);
    all.push(...made.work(assign, sums, draw));
    for (let [copy] = made.of('assign'); copy !== undefined; [copy] = made.of('assign')) {
      all.push(...made.work(copy, 'right'));
    }
    finish(made);
    return all;
  }

  test('the run is not known to be exact since the first step that a worker found wrong contributed to', () => {
    const made = harness({ ownerComputes: true }, { 1: 'liar' });
    for (let n = 1; n <= 4; n++) step(made, n, n === 1 ? AUDITED : NOT_AUDITED, n === 3 ? 'false' : 'right');
    made.actions = step(made, 5, AUDITED, 'false');
    expect(made.notes('inexact')).toMatchObject([{ worker: 1, since: 2 }]);
    expect(made.round.version).toBe(5);
  });

  test('what a worker found wrong contributed under an earlier coordinator marks the run', () => {
    const made = harness({ ownerComputes: true, version: 6, firstSteps: new Map([['liar', 4]]) }, { 1: 'liar' });
    made.actions = step(made, 7, AUDITED, 'false');
    expect(made.notes('inexact')).toMatchObject([{ since: 4 }]);
    expect(made.notes('contributed')).toEqual([]);
  });

  test('the run stays exact where a worker found wrong has contributed nothing unconfirmed', () => {
    const made = harness({ ownerComputes: true }, { 1: 'liar' });
    step(made, 1, AUDITED, 'right');
    made.actions = step(made, 2, AUDITED, 'false');
    expect(made.of('close')).toMatchObject([{ code: 'LT_CLUSTER_AUDIT' }]);
    expect(made.notes('inexact')).toEqual([]);
  });

  test('a worker found wrong waits for a back-off when it comes back, as long as others can work', () => {
    const made = harness({ ownerComputes: true }, { 1: 'liar' });
    step(made, 1, AUDITED, 'false');
    made.join(2, 'a', 'liar');
    made.join(3, 'a', 'honest');
    expect(made.begin(2, 4).map((a) => a.worker)).toEqual([3]);
  });

  test("a liar that comes back is always audited, and shut out the second time but for the owner's class", () => {
    const made = harness({ ownerComputes: true }, { 1: 'liar' });
    step(made, 1, AUDITED, 'false');
    made.join(2, 'a', 'liar');
    made.join(3, 'a', 'liar');
    made.join(4, 'b', 'liar');
    const [assign] = made.begin(2, 1);
    made.work(assign, 'false', NOT_AUDITED);
    expect(made.of('check')).toHaveLength(4);
    const [copy] = made.of('assign');
    expect(copy.worker).toBe(OWNER);
    made.work(copy, 'right');
    expect(made.of('close').map((c) => [c.worker, c.code])).toEqual([
      [2, 'LT_CLUSTER_AUDIT'],
      [4, 'LT_CLUSTER_AUDIT'],
    ]);
    made.join(5, 'b', 'liar');
    expect(types(made.actions)).toEqual(['close']);
    expect(made.notes('mixed')).toEqual([]);
    // Others behind its address may be honest, so their work is taken and confirmed.
    made.join(6, 'a', 'liar');
    expect(made.of('admit')).toHaveLength(1);
    made.do({ type: 'owner-unable' });
    expect(made.of('close').map((c) => c.worker)).toEqual([3, 6]);
    made.join(7, 'a', 'liar');
    expect(types(made.actions)).toEqual(['close']);
    made.join(8, 'a', 'somebody else');
    expect(made.of('admit')).toHaveLength(1);
  });
});

describe("the owner's adapter", () => {
  test("the owner's adapter is no worker: it is not listed, not waited for, and dealt no share", () => {
    const made = new RoundHarness({ ownerComputes: true });
    expect(made.round.workers()).toEqual([]);
    expect(made.begin(1, 4)).toEqual([]);
    expect(made.notes('waiting')).toEqual([{ note: 'waiting', for: 'workers' }]);
  });

  test("what a failing owner's adapter had goes to others, or is used unaudited", () => {
    const made = harness({ ownerComputes: true }, { 1: 'p' });
    const [assign] = made.begin(1, 1);
    made.work(assign, 'right', AUDITED);
    expect(made.of('assign')).toMatchObject([{ worker: OWNER }]);
    made.do({ type: 'owner-unable' });
    expect(made.notes('unaudited')).toHaveLength(1);
    const [again] = made.of('assign');
    expect(again.worker).toBe(1);
    // Although it is drawn again, it is not audited again.
    expect(types(made.contribute(again, 0, { draw: AUDITED }))).toEqual(['add']);
  });
});
