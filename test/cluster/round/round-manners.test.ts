import { describe, expect, test } from 'vitest';
import { Manners } from '../../../cluster/round/manners.js';
import { Member } from '../../../cluster/round/member.js';
import { People, Person } from '../../../cluster/round/person.js';
import { DEFAULT_POLICY, OWNER, type RoundConfig, sets } from '../../../cluster/round/round.js';
import { deal } from '../../../cluster/round/shares.js';
import type { RoundState } from '../../../cluster/round/state.js';
import type { Assignment } from '../../../cluster/round/work.js';
import { Bench, type Of, types } from '../simulator/bench.js';

const HAPPENING_MS = 50;

/** Lets time pass; every worker of `alive` gives a sign of life. Returns when `what` happened first, and stops there. */
function wait(bench: Bench, ms: number, alive: readonly number[], what: (bench: Bench) => boolean): number | undefined {
  for (const end = bench.now + ms; bench.now < end; ) {
    bench.now += HAPPENING_MS;
    for (const worker of alive) {
      bench.do({ type: 'life', worker });
      if (what(bench)) return bench.now;
    }
    bench.do({ type: 'tick' });
    if (what(bench)) return bench.now;
  }
  return undefined;
}

const assigns = (bench: Bench) => bench.of('assign').length > 0;

/** Steps of `microBatches` by workers that need `msOf(worker)` for each, until their speeds are known. */
function steps(
  bench: Bench,
  from: number,
  count: number,
  microBatches: number,
  msOf: (worker: number) => number,
): void {
  for (let n = from; n < from + count; n++) {
    const start = bench.now;
    let open = bench.begin(n, microBatches).map((a) => ({ a, at: start + a.buckets.length }));
    open = open.map(({ a }) => ({ a, at: start + sets.countOf(a.microBatches) * msOf(a.worker) }));
    while (open.length > 0) {
      open.sort((x, y) => x.at - y.at);
      const [first] = open.splice(0, 1);
      bench.now = Math.max(bench.now, first.at);
      bench.work(first.a);
      for (const a of bench.of('assign'))
        open.push({ a, at: bench.now + sets.countOf(a.microBatches) * msOf(a.worker) });
    }
    for (let b = 0; b < 3; b++) bench.do({ type: 'updated', bucket: b });
  }
}

describe('who has not proved itself', () => {
  test('a newcomer is dealt one micro-batch, and its share when that is in the sums', () => {
    const bench = new Bench();
    bench.join(1);
    const [first] = bench.begin(1, 8);
    expect(sets.idsOf(first.microBatches)).toEqual([0]);
    const adds = [0, 1, 2, 3].map((b) => bench.contribute(first, b)[0] as Of<'add'>);
    expect(bench.of('assign')).toEqual([]);
    for (const add of adds) bench.summed(add);
    expect(bench.of('assign').map((a) => sets.countOf(a.microBatches))).toEqual([7]);
  });

  test('a newcomer has a part kept for it, of which the idle take what they can do sooner', () => {
    const bench = new Bench();
    bench.join(1);
    bench.join(2);
    const [first, second] = bench.begin(1, 10);
    bench.now = 100;
    bench.work(first);
    expect(bench.of('assign').map((a) => [a.worker, sets.countOf(a.microBatches)])).toEqual([[1, 5]]);
    bench.work(second);
    expect(bench.of('assign').map((a) => [a.worker, sets.countOf(a.microBatches)])).toEqual([[2, 3]]);
  });

  test('newcomers hold nobody up who has proved itself: shares in the steady state are those of speed', () => {
    const bench = new Bench();
    const ms = [0, 30, 60, 90];
    for (const worker of [1, 2, 3]) bench.join(worker);
    steps(bench, 1, 12, 20, (worker) => ms[worker]);
    const views = bench.round.workers();
    const lanes = views.map((v) => ({ microBatchMs: v.microBatchMs ?? 0, loadMs: 0 }));
    const shares = bench.begin(13, 20).map((a) => sets.countOf(a.microBatches));
    expect(shares).toEqual(deal(20, lanes, DEFAULT_POLICY.overheadMs));
    expect(bench.round.counters).toMatchObject({ late: 0, fenced: 0, handedBack: 0 });
  });
});

describe('late work', () => {
  test('late work is dealt to an idle worker as well; the first contribution of each bucket counts', () => {
    const bench = new Bench();
    bench.join(1);
    bench.join(2);
    steps(bench, 1, 4, 4, () => 100);
    const [slow, fast] = bench.begin(5, 4);
    bench.now += 100;
    bench.work(fast);
    const at = bench.now;
    // Two micro-batches of 50 ms, all in, and the overhead: late after two and a half times that.
    const late = wait(bench, 5000, [1, 2], assigns);
    const [twin] = bench.of('assign');
    expect(twin).toMatchObject({ worker: 2, microBatches: slow.microBatches, buckets: slow.buckets });
    expect((late ?? 0) - at).toBeGreaterThan(200);
    expect((late ?? 0) - at).toBeLessThan(600);
    expect(bench.notes('late')).toMatchObject([{ worker: 1 }]);
    expect(types(bench.contribute(slow, 1))).toEqual(['add']);
    const contributions = [0, 1, 2].map((b) => types(bench.contribute(twin, b)));
    expect(contributions).toEqual([['add'], ['release'], ['add']]);
    expect(types(bench.contribute(twin, 3))).toEqual(['add', 'revoke']);
    expect(bench.round.workers().find((w) => w.worker === 1)).toMatchObject({ fenced: true });
    expect(bench.round.counters).toMatchObject({ late: 1, fenced: 1 });
  });

  test('work of who answers and does nothing is late, whatever it says that it has begun', () => {
    const bench = new Bench();
    bench.prove(1, 2);
    const [first, second] = bench.begin(1, 2);
    bench.now = 30;
    bench.work(second);
    bench.do({ type: 'progress', worker: 1, assignment: first.assignment, begun: 1 });
    expect(wait(bench, 10_000, [1, 2], assigns)).toBeLessThan(2000);
    expect(bench.of('assign')).toMatchObject([{ worker: 2 }]);
  });

  test('who was dealt late work has done nothing wrong when its first worker is sooner after all', () => {
    const bench = new Bench();
    bench.prove(1, 2);
    const [first, second] = bench.begin(1, 2);
    bench.now = 30;
    bench.work(second);
    wait(bench, 10_000, [1, 2], assigns);
    for (let b = 0; b <= 3; b++) bench.contribute(first, b);
    expect(bench.of('revoke')).toMatchObject([{ worker: 2 }]);
    expect(bench.round.counters.fenced).toBe(0);
  });

  test('late work that has a twin can be handed back: nothing is open for it', () => {
    const bench = new Bench();
    bench.join(1);
    bench.join(2);
    steps(bench, 1, 3, 8, (worker) => (worker === 1 ? 30 : 35));
    const [slow, fast] = bench.begin(4, 8);
    bench.now += 100;
    bench.work(fast);
    const [ask] = bench.of('hand-back');
    wait(bench, 5000, [1, 2], assigns);
    const { assignment, microBatches } = ask;
    expect(types(bench.do({ type: 'handed-back', worker: 1, assignment, microBatches }))).toEqual(['revoke']);
    expect(assignment).toBe(slow.assignment);
    expect(bench.round.counters.fenced).toBe(0);
  });

  test('late work costs its connection a back-off that grows', () => {
    const bench = new Bench();
    bench.prove(1, 2);
    const backOffs: number[] = [];
    let fencedAt: number | undefined;
    let open = bench.begin(1, 2);
    for (let n = 1; n <= 400 && backOffs.length < 3; n++) {
      bench.now += 100;
      let mine = open.find((a) => a.worker === 2);
      if (mine !== undefined) bench.work(mine);
      if (open.some((a) => a.worker === 1)) {
        // Worker 1 answers, and never works.
        wait(bench, 20_000, [1, 2], assigns);
        [mine] = bench.of('assign');
        bench.work(mine);
        fencedAt = bench.now;
      }
      for (let b = 0; b < 3; b++) bench.do({ type: 'updated', bucket: b });
      bench.now += 100;
      for (const worker of [1, 2]) bench.do({ type: 'life', worker });
      open = bench.begin(n + 1, 2);
      if (fencedAt === undefined || bench.round.workers()[0].fenced) continue;
      backOffs.push(bench.now - fencedAt);
      fencedAt = undefined;
    }
    // To the next step.
    expect(backOffs.map((ms) => 1000 * Math.floor(ms / 1000))).toEqual([2000, 4000, 8000]);
  });

  test('late work costs its person a back-off: a new connection waits for its end, a proved one does not', () => {
    const bench = new Bench();
    for (const worker of [1, 3]) bench.join(worker, 'a', 'a school');
    bench.join(2);
    bench.evaluate(3);
    bench.join(4, 'a', 'a school');
    const [one, two, three, four] = bench.begin(1, 4);
    expect([one, two, three, four].map((a) => a.worker)).toEqual([1, 3, 2, 4]);
    bench.now = 30;
    for (const a of [one, two, three]) bench.work(a);
    wait(bench, 20_000, [1, 2, 3, 4], assigns);
    bench.work(bench.of('assign')[0]);
    expect(bench.notes('fence')).toMatchObject([{ worker: 4 }]);
    for (let b = 0; b < 3; b++) bench.do({ type: 'updated', bucket: b });
    bench.join(5, 'a', 'a school');
    bench.join(6, 'a', 'elsewhere');
    expect(new Set(bench.begin(2, 5).map((a) => a.worker))).toEqual(new Set([1, 2, 3, 6]));
  });

  test('late work is named while the job waits for it, at growing intervals', () => {
    const bench = new Bench();
    bench.prove(1);
    bench.begin(1, 2);
    const times: number[] = [];
    while (bench.now < 100_000) {
      const at = wait(bench, 100_000, [1], (b) => b.notes('awaited').length > 0);
      if (at === undefined) break;
      expect(bench.notes('awaited')).toMatchObject([{ workers: [1], waitedMs: at }]);
      times.push(at);
      bench.actions = [];
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
      const manners = new Manners(state as unknown as RoundState);
      let now = 0;
      for (let offence = 0; offence < 12; offence++) {
        now = Math.max(now, person.barredUntil);
        manners.raise(person, now, members[0]);
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
    const bench = new Bench();
    bench.join(1);
    const handBack = (all: Of<'assign'>[]) => {
      for (const { worker, assignment, microBatches } of all)
        bench.do({ type: 'handed-back', worker, assignment, microBatches });
    };
    let dealt = bench.begin(1, 4).length;
    handBack(bench.of('assign'));
    while (bench.now < 60_000) {
      dealt += bench.of('assign').length;
      if (assigns(bench)) handBack(bench.of('assign'));
      else wait(bench, 1000, [1], assigns);
    }
    // One a second while nobody else is there.
    expect(dealt).toBeLessThan(65);
    expect(dealt).toBeGreaterThan(20);
    const isItsTurn = (b: Bench) => b.of('assign').some((a) => a.worker === 2);
    bench.join(2);
    if (!isItsTurn(bench)) wait(bench, 100, [1, 2], isItsTurn);
    expect(isItsTurn(bench)).toBe(true);
  });

  test('weights asked for on ever new connections end them', () => {
    const bench = new Bench({ policy: { wrongBuckets: 2 } });
    bench.join(99);
    const closed: number[] = [];
    for (let worker = 1; worker <= 10; worker++) {
      bench.join(worker, 'a', 'x');
      for (let i = 0; i < 2; i++) {
        bench.do({ type: 'mismatch', worker, bucket: 0 });
        if (bench.of('close').length > 0) closed.push(worker);
      }
    }
    expect(closed).toEqual([5, 6, 7, 8, 9, 10]);
    bench.do({ type: 'mismatch', worker: 99, bucket: 0 });
    expect(bench.of('close')).toEqual([]);
  });
});

describe('a refusal', () => {
  const refuse = (bench: Bench, { worker, assignment }: Of<'assign'>, microBatches: sets.IdSet) =>
    bench.do({ type: 'refused', worker, assignment, microBatches, reason: 'NaN' });

  function refusing(config: Partial<RoundConfig>, ...workers: number[]): Bench {
    const bench = new Bench(config);
    bench.prove(...workers);
    return bench;
  }

  test("a refusal is checked by the owner's adapter, and refuted", () => {
    const bench = refusing({ ownerComputes: true }, 1, 2);
    const [assign, other] = bench.begin(1, 4);
    refuse(bench, assign, sets.setOf(4, [1]));
    expect(bench.of('stopped')).toEqual([]);
    const dealt = bench.of('assign').map((a) => [a.worker, sets.idsOf(a.microBatches)]);
    // The rest goes to somebody else: who refuses is dealt nothing more of this step.
    expect(dealt).toEqual(
      expect.arrayContaining([
        [OWNER, [1]],
        [2, [0]],
      ]),
    );
    const [claim] = bench.of('assign').filter((a) => a.worker === OWNER);
    const [rest] = bench.of('assign').filter((a) => a.worker === 2);
    for (const a of [other, rest]) bench.work(a);
    bench.work(claim);
    expect(bench.notes('refuted')).toMatchObject([{ worker: 1, microBatch: 1 }]);
    expect(bench.round.counters).toMatchObject({ refused: 1, refuted: 1 });
    expect(bench.of('commit').length + bench.of('update').length).toBeGreaterThan(0);
  });

  test("a refusal is believed when the owner's adapter refuses too", () => {
    const bench = refusing({ ownerComputes: true }, 1, 2);
    const [assign] = bench.begin(1, 4);
    refuse(bench, assign, sets.setOf(4, [1]));
    const [claim] = bench.of('assign').filter((a) => a.worker === OWNER);
    refuse(bench, claim, sets.setOf(4, [1]));
    expect(bench.of('stopped')).toMatchObject([{ reason: { why: 'refused', microBatch: 1, workers: [OWNER] } }]);
  });

  test("a refusal is not refuted by a worker where the owner's adapter computes: it may lie", () => {
    const bench = refusing({ ownerComputes: true }, 1, 2);
    const [assign] = bench.begin(1, 2);
    bench.contribute(assign, 0);
    refuse(bench, assign, assign.microBatches);
    const [claim] = bench.of('assign');
    expect([claim.worker, sets.idsOf(claim.buckets)]).toEqual([OWNER, [1, 2, 3]]);
    expect(bench.round.counters.refuted).toBe(0);
  });

  test('a refusal is believed of two persons, not of two connections of one, where the owner cannot compute', () => {
    const made = (third: string) => {
      const bench = new Bench();
      bench.join(1, 'a', 'x');
      bench.join(2, 'a', third);
      bench.join(3, 'a', 'y');
      bench.evaluate(3);
      const [assign] = bench.begin(1, 1);
      refuse(bench, assign, assign.microBatches);
      const [again] = bench.of('assign');
      if (again.worker !== 3) refuse(bench, again, again.microBatches);
      return bench;
    };
    expect(made('z').of('stopped')).toMatchObject([{ reason: { why: 'refused', workers: [1, 2] } }]);
    const bench = made('x');
    expect(bench.of('stopped')).toEqual([]);
    expect(bench.of('assign')).toMatchObject([{ worker: 3 }]);
  });

  test('a refusal of the only person is believed the second time', () => {
    const bench = refusing({}, 1);
    const [assign] = bench.begin(1, 1);
    refuse(bench, assign, assign.microBatches);
    expect(bench.of('stopped')).toEqual([]);
    const [again] = bench.of('assign');
    refuse(bench, again, again.microBatches);
    expect(bench.of('stopped')).toMatchObject([{ reason: { why: 'refused', workers: [1] } }]);
  });

  test('refusals that are refuted twice within some steps end the connection', () => {
    const bench = refusing({ ownerComputes: true }, 1, 2);
    const closes: string[] = [];
    for (let n = 1; n <= 40 && closes.length === 0; n++) {
      bench.now += 3000;
      for (const worker of [1, 2]) bench.do({ type: 'life', worker });
      const open = bench.begin(n, 4);
      for (let a = open.shift(); a !== undefined; a = open.shift()) {
        if (a.worker === 1) refuse(bench, a, sets.setOf(4, [[...sets.membersOf(a.microBatches)][0]]));
        else bench.work(a);
        open.push(...bench.of('assign'));
        closes.push(...bench.of('close').map((c) => c.code));
      }
      for (let b = 0; b < 3; b++) bench.do({ type: 'updated', bucket: b });
    }
    expect(closes).toEqual(['LT_CLUSTER_MANNERS']);
    expect(bench.round.counters.refuted).toBe(2);
  });

  test('a refusal of an evaluation is checked whole: one of its micro-batches is meant', () => {
    const bench = refusing({ ownerComputes: true }, 1);
    bench.do({ type: 'begin-evaluation', microBatches: 3 });
    const [assign] = bench.of('assign');
    refuse(bench, assign, assign.microBatches);
    const [claim] = bench.of('assign');
    expect(claim).toMatchObject({ worker: OWNER, kind: 'evaluate', microBatches: assign.microBatches });
    refuse(bench, claim, sets.setOf(3, [2]));
    expect(bench.of('evaluated')).toMatchObject([{ finite: false }]);
  });
});
