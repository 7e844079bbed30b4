import { describe, expect, test } from 'vitest';
import { Eligibility } from '../../../cluster/round/eligibility.js';
import { deal } from '../../../cluster/round/load-balance.js';
import { Member } from '../../../cluster/round/member.js';
import { People, Person } from '../../../cluster/round/person.js';
import { DEFAULT_POLICY, OWNER, type RoundConfig, sets } from '../../../cluster/round/round.js';
import type { RoundState } from '../../../cluster/round/state.js';
import type { Assignment } from '../../../cluster/round/work.js';
import { type Of, RoundHarness, types } from '../simulator/round-harness.js';

const HAPPENING_MS = 50;

/** Lets time pass, with signs of life of the workers in `alive`. Stops when `what` is true; returns that time. */
function wait(
  harness: RoundHarness,
  ms: number,
  alive: readonly number[],
  what: (harness: RoundHarness) => boolean,
): number | undefined {
  for (const end = harness.now + ms; harness.now < end; ) {
    harness.now += HAPPENING_MS;
    for (const worker of alive) {
      harness.do({ type: 'life', worker });
      if (what(harness)) return harness.now;
    }
    harness.do({ type: 'tick' });
    if (what(harness)) return harness.now;
  }
  return undefined;
}

const assigns = (harness: RoundHarness) => harness.of('assign').length > 0;

/** Steps of `microBatches` by workers that need `msOf(worker)` for each, until their speeds are known. */
function steps(
  harness: RoundHarness,
  from: number,
  count: number,
  microBatches: number,
  msOf: (worker: number) => number,
): void {
  for (let n = from; n < from + count; n++) {
    const start = harness.now;
    let open = harness.begin(n, microBatches).map((a) => ({ a, at: start + a.buckets.length }));
    open = open.map(({ a }) => ({ a, at: start + sets.countOf(a.microBatches) * msOf(a.worker) }));
    while (open.length > 0) {
      open.sort((x, y) => x.at - y.at);
      const [first] = open.splice(0, 1);
      harness.now = Math.max(harness.now, first.at);
      harness.work(first.a);
      for (const a of harness.of('assign'))
        open.push({ a, at: harness.now + sets.countOf(a.microBatches) * msOf(a.worker) });
    }
    for (let b = 0; b < 3; b++) harness.do({ type: 'updated', bucket: b });
  }
}

describe('who has not proved itself', () => {
  test('a newcomer is dealt one micro-batch, and its share when that is in the sums', () => {
    const harness = new RoundHarness();
    harness.join(1);
    const [first] = harness.begin(1, 8);
    expect(sets.idsOf(first.microBatches)).toEqual([0]);
    const adds = [0, 1, 2, 3].map((b) => harness.contribute(first, b)[0] as Of<'add'>);
    expect(harness.of('assign')).toEqual([]);
    for (const add of adds) harness.summed(add);
    expect(harness.of('assign').map((a) => sets.countOf(a.microBatches))).toEqual([7]);
  });

  test('a newcomer has a part kept for it, of which the idle take what they can do sooner', () => {
    const harness = new RoundHarness();
    harness.join(1);
    harness.join(2);
    const [first, second] = harness.begin(1, 10);
    harness.now = 100;
    harness.work(first);
    expect(harness.of('assign').map((a) => [a.worker, sets.countOf(a.microBatches)])).toEqual([[1, 5]]);
    harness.work(second);
    expect(harness.of('assign').map((a) => [a.worker, sets.countOf(a.microBatches)])).toEqual([[2, 3]]);
  });

  test('newcomers hold nobody up who has proved itself: shares in the steady state are those of speed', () => {
    const harness = new RoundHarness();
    const ms = [0, 30, 60, 90];
    for (const worker of [1, 2, 3]) harness.join(worker);
    steps(harness, 1, 12, 20, (worker) => ms[worker]);
    const views = harness.round.workers();
    const loads = views.map((v) => ({ microBatchMs: v.microBatchMs ?? 0, loadMs: 0 }));
    const shares = harness.begin(13, 20).map((a) => sets.countOf(a.microBatches));
    expect(shares).toEqual(deal(20, loads, DEFAULT_POLICY.overheadMs));
    expect(harness.round.counters).toMatchObject({ late: 0, fenced: 0, handedBack: 0 });
  });
});

describe('late work', () => {
  test('late work is dealt to an idle worker as well; the first contribution of each bucket counts', () => {
    const harness = new RoundHarness();
    harness.join(1);
    harness.join(2);
    steps(harness, 1, 4, 4, () => 100);
    const [slow, fast] = harness.begin(5, 4);
    harness.now += 100;
    harness.work(fast);
    const at = harness.now;
    // Two micro-batches of 50 ms each, and the overhead: late after two and a half times that.
    const late = wait(harness, 5000, [1, 2], assigns);
    const [twin] = harness.of('assign');
    expect(twin).toMatchObject({ worker: 2, microBatches: slow.microBatches, buckets: slow.buckets });
    expect((late ?? 0) - at).toBeGreaterThan(200);
    expect((late ?? 0) - at).toBeLessThan(600);
    expect(harness.notes('late')).toMatchObject([{ worker: 1 }]);
    expect(types(harness.contribute(slow, 1))).toEqual(['add']);
    const contributions = [0, 1, 2].map((b) => types(harness.contribute(twin, b)));
    expect(contributions).toEqual([['add'], ['release'], ['add']]);
    expect(types(harness.contribute(twin, 3))).toEqual(['add', 'revoke']);
    expect(harness.round.workers().find((w) => w.worker === 1)).toMatchObject({ fenced: true });
    expect(harness.round.counters).toMatchObject({ late: 1, fenced: 1 });
  });

  test('work of who answers and does nothing is late, whatever it says that it has begun', () => {
    const harness = new RoundHarness();
    harness.prove(1, 2);
    const [first, second] = harness.begin(1, 2);
    harness.now = 30;
    harness.work(second);
    harness.do({ type: 'progress', worker: 1, assignment: first.assignment, begun: 1 });
    expect(wait(harness, 10_000, [1, 2], assigns)).toBeLessThan(2000);
    expect(harness.of('assign')).toMatchObject([{ worker: 2 }]);
  });

  test('who was dealt late work has done nothing wrong when its first worker is sooner after all', () => {
    const harness = new RoundHarness();
    harness.prove(1, 2);
    const [first, second] = harness.begin(1, 2);
    harness.now = 30;
    harness.work(second);
    wait(harness, 10_000, [1, 2], assigns);
    for (let b = 0; b <= 3; b++) harness.contribute(first, b);
    expect(harness.of('revoke')).toMatchObject([{ worker: 2 }]);
    expect(harness.round.counters.fenced).toBe(0);
  });

  test('late work that has a twin can be handed back: nothing is open for it', () => {
    const harness = new RoundHarness();
    harness.join(1);
    harness.join(2);
    steps(harness, 1, 3, 8, (worker) => (worker === 1 ? 30 : 35));
    const [slow, fast] = harness.begin(4, 8);
    harness.now += 100;
    harness.work(fast);
    const [ask] = harness.of('hand-back');
    wait(harness, 5000, [1, 2], assigns);
    const { assignment, microBatches } = ask;
    expect(types(harness.do({ type: 'handed-back', worker: 1, assignment, microBatches }))).toEqual(['revoke']);
    expect(assignment).toBe(slow.assignment);
    expect(harness.round.counters.fenced).toBe(0);
  });

  test('late work costs its connection a back-off that grows', () => {
    const harness = new RoundHarness();
    harness.prove(1, 2);
    const backOffs: number[] = [];
    let fencedAt: number | undefined;
    let open = harness.begin(1, 2);
    for (let n = 1; n <= 400 && backOffs.length < 3; n++) {
      harness.now += 100;
      let mine = open.find((a) => a.worker === 2);
      if (mine !== undefined) harness.work(mine);
      if (open.some((a) => a.worker === 1)) {
        // Worker 1 answers, and never works.
        wait(harness, 20_000, [1, 2], assigns);
        [mine] = harness.of('assign');
        harness.work(mine);
        fencedAt = harness.now;
      }
      for (let b = 0; b < 3; b++) harness.do({ type: 'updated', bucket: b });
      harness.now += 100;
      for (const worker of [1, 2]) harness.do({ type: 'life', worker });
      open = harness.begin(n + 1, 2);
      if (fencedAt === undefined || harness.round.workers()[0].fenced) continue;
      backOffs.push(harness.now - fencedAt);
      fencedAt = undefined;
    }
    // On to the next step.
    expect(backOffs.map((ms) => 1000 * Math.floor(ms / 1000))).toEqual([2000, 4000, 8000]);
  });

  test('late work costs its person a back-off: a new connection waits for its end, a proved one does not', () => {
    const harness = new RoundHarness();
    for (const worker of [1, 3]) harness.join(worker, 'a', 'a school');
    harness.join(2);
    harness.evaluate(3);
    harness.join(4, 'a', 'a school');
    const [one, two, three, four] = harness.begin(1, 4);
    expect([one, two, three, four].map((a) => a.worker)).toEqual([1, 3, 2, 4]);
    harness.now = 30;
    for (const a of [one, two, three]) harness.work(a);
    wait(harness, 20_000, [1, 2, 3, 4], assigns);
    harness.work(harness.of('assign')[0]);
    expect(harness.notes('fence')).toMatchObject([{ worker: 4 }]);
    for (let b = 0; b < 3; b++) harness.do({ type: 'updated', bucket: b });
    harness.join(5, 'a', 'a school');
    harness.join(6, 'a', 'elsewhere');
    expect(new Set(harness.begin(2, 5).map((a) => a.worker))).toEqual(new Set([1, 2, 3, 6]));
  });

  test('late work is named while the job waits for it, at growing intervals', () => {
    const harness = new RoundHarness();
    harness.prove(1);
    harness.begin(1, 2);
    const times: number[] = [];
    while (harness.now < 100_000) {
      const at = wait(harness, 100_000, [1], (b) => b.notes('awaited').length > 0);
      if (at === undefined) break;
      expect(harness.notes('awaited')).toMatchObject([{ workers: [1], waitedMs: at }]);
      times.push(at);
      harness.actions = [];
    }
    expect(times.slice(0, 5)).toEqual([5000, 10_000, 20_000, 40_000, 80_000]);
  });
});

describe('a worker that was dealt work and did none', () => {
  test('a worker that did none of its work is not thought faster for it, as one is that had no share', () => {
    const member = new Member(1, new Person('p', DEFAULT_POLICY), 'a', 0, DEFAULT_POLICY, 0);
    member.speed.sample(1, 100);
    const [assignment] = [{ count: 4, begun: 0 }] as Assignment[];
    member.take(assignment, 0);
    member.drop(assignment, 50);
    member.jobEnded('step');
    expect(member.microBatchMs).toBe(100);
    member.jobEnded('step');
    expect(member.microBatchMs).toBe(90);
  });
});

describe('what is known of persons', () => {
  test('offences of a person bar newcomers only briefly where another connection of theirs has proved itself', () => {
    const barredMs = (...proven: boolean[]) => {
      const person = new Person('a school', DEFAULT_POLICY);
      const members = proven.map((isProven, id) => {
        const member = new Member(id, person, 'a', 0, DEFAULT_POLICY, 0);
        member.proven = isProven;
        return member;
      });
      const state = { policy: DEFAULT_POLICY, members: new Map(members.map((m) => [m.id, m])) };
      const eligibility = new Eligibility(state as unknown as RoundState);
      let now = 0;
      for (let offence = 0; offence < 12; offence++) {
        now = Math.max(now, person.barredUntil);
        eligibility.raise(person, now, members[0]);
      }
      return person.barredUntil - now;
    };
    expect(barredMs(true)).toBe(300_000);
    expect(barredMs(true, false)).toBe(300_000);
    expect(barredMs(true, true)).toBe(10_000);
  });

  test('persons that have contributed or cost something are remembered, and a thousand others', () => {
    const people = new People(DEFAULT_POLICY, new Map([['an old one', 3]]));
    const [harmless, contributor, staller, old] = ['harmless', 'a contributor', 'a staller', 'an old one'].map((name) =>
      people.get(name, 0),
    );
    contributor.firstUnconfirmed = 7;
    staller.raise(0, () => 60_000);
    for (let i = 0; i < 1500; i++) people.get(`stranger ${i}`, 10);
    expect(people.get('a contributor', 10)).toBe(contributor);
    expect(people.get('a staller', 10)).toBe(staller);
    expect(people.get('an old one', 10)).toBe(old);
    expect(old.firstUnconfirmed).toBe(3);
    expect(people.get('harmless', 10)).not.toBe(harmless);
  });

  test('offences of a person are forgotten in time, one a minute', () => {
    const person = new Person('p', DEFAULT_POLICY);
    const backOffMs = (level: number) => 1000 * level;
    person.raise(0, backOffMs);
    // Counts once until the back-off ends.
    person.raise(500, backOffMs);
    expect(person.levelAt(600)).toBe(1);
    person.raise(1000, backOffMs);
    expect(person.levelAt(2000)).toBe(2);
    expect(person.barredUntil).toBe(3000);
    expect([62_000, 63_000, 123_000].map((now) => person.levelAt(now))).toEqual([2, 1, 0]);
  });
});

describe('what nobody asked for', () => {
  test('work handed back again and again is dealt at a bounded rate, and to others first', () => {
    const harness = new RoundHarness();
    harness.join(1);
    const handBack = (all: Of<'assign'>[]) => {
      for (const { worker, assignment, microBatches } of all)
        harness.do({ type: 'handed-back', worker, assignment, microBatches });
    };
    let dealt = harness.begin(1, 4).length;
    handBack(harness.of('assign'));
    while (harness.now < 60_000) {
      dealt += harness.of('assign').length;
      if (assigns(harness)) handBack(harness.of('assign'));
      else wait(harness, 1000, [1], assigns);
    }
    // One a second while there is no other worker.
    expect(dealt).toBeLessThan(65);
    expect(dealt).toBeGreaterThan(20);
    const isItsTurn = (b: RoundHarness) => b.of('assign').some((a) => a.worker === 2);
    harness.join(2);
    if (!isItsTurn(harness)) wait(harness, 100, [1, 2], isItsTurn);
    expect(isItsTurn(harness)).toBe(true);
  });

  test('weights asked for on ever new connections end them', () => {
    const harness = new RoundHarness({ policy: { wrongBuckets: 2 } });
    harness.join(99);
    const closed: number[] = [];
    for (let worker = 1; worker <= 10; worker++) {
      harness.join(worker, 'a', 'x');
      for (let i = 0; i < 2; i++) {
        harness.do({ type: 'mismatch', worker, bucket: 0 });
        if (harness.of('close').length > 0) closed.push(worker);
      }
    }
    expect(closed).toEqual([5, 6, 7, 8, 9, 10]);
    harness.do({ type: 'mismatch', worker: 99, bucket: 0 });
    expect(harness.of('close')).toEqual([]);
  });
});

describe('a refusal', () => {
  const refuse = (harness: RoundHarness, { worker, assignment }: Of<'assign'>, microBatches: sets.IdSet) =>
    harness.do({ type: 'refused', worker, assignment, microBatches, reason: 'NaN' });

  function refusing(config: Partial<RoundConfig>, ...workers: number[]): RoundHarness {
    const harness = new RoundHarness(config);
    harness.prove(...workers);
    return harness;
  }

  test("a refusal is checked by the owner's adapter, and refuted", () => {
    const harness = refusing({ ownerComputes: true }, 1, 2);
    const [assign, other] = harness.begin(1, 4);
    refuse(harness, assign, sets.setOf(4, [1]));
    expect(harness.of('stopped')).toEqual([]);
    const dealt = harness.of('assign').map((a) => [a.worker, sets.idsOf(a.microBatches)]);
    // The rest goes to another worker: a refuser is dealt nothing more of this step.
    expect(dealt).toEqual(
      expect.arrayContaining([
        [OWNER, [1]],
        [2, [0]],
      ]),
    );
    const [claim] = harness.of('assign').filter((a) => a.worker === OWNER);
    const [rest] = harness.of('assign').filter((a) => a.worker === 2);
    for (const a of [other, rest]) harness.work(a);
    harness.work(claim);
    expect(harness.notes('refuted')).toMatchObject([{ worker: 1, microBatch: 1 }]);
    expect(harness.round.counters).toMatchObject({ refused: 1, refuted: 1 });
    expect(harness.of('commit').length + harness.of('update').length).toBeGreaterThan(0);
  });

  test("a refusal is believed when the owner's adapter refuses too", () => {
    const harness = refusing({ ownerComputes: true }, 1, 2);
    const [assign] = harness.begin(1, 4);
    refuse(harness, assign, sets.setOf(4, [1]));
    const [claim] = harness.of('assign').filter((a) => a.worker === OWNER);
    refuse(harness, claim, sets.setOf(4, [1]));
    expect(harness.of('stopped')).toMatchObject([{ reason: { why: 'refused', microBatch: 1, workers: [OWNER] } }]);
  });

  test("a refusal is not refuted by a worker where the owner's adapter computes: it may lie", () => {
    const harness = refusing({ ownerComputes: true }, 1, 2);
    const [assign] = harness.begin(1, 2);
    harness.contribute(assign, 0);
    refuse(harness, assign, assign.microBatches);
    const [claim] = harness.of('assign');
    expect([claim.worker, sets.idsOf(claim.buckets)]).toEqual([OWNER, [1, 2, 3]]);
    expect(harness.round.counters.refuted).toBe(0);
  });

  test('a refusal is believed of two persons, not of two connections of one, where the owner cannot compute', () => {
    const made = (third: string) => {
      const harness = new RoundHarness();
      harness.join(1, 'a', 'x');
      harness.join(2, 'a', third);
      harness.join(3, 'a', 'y');
      harness.evaluate(3);
      const [assign] = harness.begin(1, 1);
      refuse(harness, assign, assign.microBatches);
      const [again] = harness.of('assign');
      if (again.worker !== 3) refuse(harness, again, again.microBatches);
      return harness;
    };
    expect(made('z').of('stopped')).toMatchObject([{ reason: { why: 'refused', workers: [1, 2] } }]);
    const harness = made('x');
    expect(harness.of('stopped')).toEqual([]);
    expect(harness.of('assign')).toMatchObject([{ worker: 3 }]);
  });

  test('a refusal of the only person is believed the second time', () => {
    const harness = refusing({}, 1);
    const [assign] = harness.begin(1, 1);
    refuse(harness, assign, assign.microBatches);
    expect(harness.of('stopped')).toEqual([]);
    const [again] = harness.of('assign');
    refuse(harness, again, again.microBatches);
    expect(harness.of('stopped')).toMatchObject([{ reason: { why: 'refused', workers: [1] } }]);
  });

  test('refusals that are refuted twice within some steps end the connection', () => {
    const harness = refusing({ ownerComputes: true }, 1, 2);
    const closes: string[] = [];
    for (let n = 1; n <= 40 && closes.length === 0; n++) {
      harness.now += 3000;
      for (const worker of [1, 2]) harness.do({ type: 'life', worker });
      const open = harness.begin(n, 4);
      for (let a = open.shift(); a !== undefined; a = open.shift()) {
        if (a.worker === 1) refuse(harness, a, sets.setOf(4, [[...sets.membersOf(a.microBatches)][0]]));
        else harness.work(a);
        open.push(...harness.of('assign'));
        closes.push(...harness.of('close').map((c) => c.code));
      }
      for (let b = 0; b < 3; b++) harness.do({ type: 'updated', bucket: b });
    }
    expect(closes).toEqual(['LT_CLUSTER_MANNERS']);
    expect(harness.round.counters.refuted).toBe(2);
  });

  test('a refusal of an evaluation is checked whole: one of its micro-batches is meant', () => {
    const harness = refusing({ ownerComputes: true }, 1);
    harness.do({ type: 'begin-evaluation', microBatches: 3 });
    const [assign] = harness.of('assign');
    refuse(harness, assign, assign.microBatches);
    const [claim] = harness.of('assign');
    expect(claim).toMatchObject({ worker: OWNER, kind: 'evaluate', microBatches: assign.microBatches });
    refuse(harness, claim, sets.setOf(3, [2]));
    expect(harness.of('evaluated')).toMatchObject([{ finite: false }]);
  });
});
