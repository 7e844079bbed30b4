import { describe, expect, test } from 'vitest';
import { type Contest, type Examined, holdContest, winnerOf } from '../../src/run/contest.js';

/** Candidates with made-up times on a clock that only they move. */
class Fake implements Contest {
  readonly name = 'fake';
  readonly base = 'base';
  readonly log: string[] = [];
  clock = 0;

  constructor(
    readonly runs: Readonly<Record<string, number | readonly number[]>>,
    readonly outcomes: Readonly<Record<string, Examined | Error>> = {},
    readonly examineMs = 1,
  ) {}

  get candidates(): string[] {
    return Object.keys(this.runs).filter((name) => name !== this.base);
  }

  async examine(name: string): Promise<Examined> {
    this.clock += this.examineMs;
    const outcome = this.outcomes[name] ?? { equal: true };
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  async time(name: string): Promise<number> {
    const times = this.runs[name];
    const count = this.log.filter((n) => n === name).length;
    this.log.push(name);
    const ms = typeof times === 'number' ? times : times[count % times.length];
    this.clock += ms;
    return ms;
  }

  hold(budgetMs = 1e6) {
    return holdContest(this, budgetMs, () => this.clock);
  }
}

describe('a contest', () => {
  test('a contest is won by the smallest median, and a single disturbance does not matter', async () => {
    const entries = await new Fake({ base: 10, fast: [7, 900, 7, 7, 7, 7, 7], slow: 11 }).hold();
    expect(entries.find((e) => e.candidate === 'fast')?.milliseconds).toBe(7);
    expect(winnerOf(entries, false)).toBe('fast');
  });

  test('a contest stays with the base where others are faster by less than noise', async () => {
    expect(winnerOf(await new Fake({ base: 10, other: 9.8 }).hold(), true)).toBe('base');
  });

  test('a contest rotates turns, and drops who is hopeless after one round or far behind after two, never the base', async () => {
    const fake = new Fake({ base: 20, fast: 10, slow: 25, hopeless: 40 });
    await fake.hold();
    expect(fake.log.slice(0, 7)).toEqual(['base', 'fast', 'slow', 'hopeless', 'fast', 'slow', 'base']);
    const count = (name: string) => fake.log.filter((n) => n === name).length;
    expect(['base', 'fast', 'slow', 'hopeless'].map(count)).toEqual([7, 7, 2, 1]);
  });

  test('a contest rejects what is wrong or does not compile, and never times it', async () => {
    const fake = new Fake(
      { base: 10, wrong: 1, broken: 1 },
      { wrong: { equal: false, wrong: 'its output is wrong by 3' }, broken: new Error('no such\nfeature') },
    );
    const entries = await fake.hold();
    expect(entries[1]).toEqual({ candidate: 'wrong', examined: { equal: false, wrong: 'its output is wrong by 3' } });
    expect(entries[2].examined?.wrong).toBe('no such');
    expect(fake.log).toEqual([]);
    expect(winnerOf(entries, true)).toBe('base');
  });

  test('a contest lets other bits win only where they are asked for', async () => {
    const fake = new Fake({ base: 10, same: 8, other: 5 }, { other: { equal: false } });
    const entries = await fake.hold();
    expect(winnerOf(entries, false)).toBe('same');
    expect(winnerOf(entries, true)).toBe('other');
  });

  test('a contest has no winner where the base is wrong, unless others may stand in', async () => {
    const fake = new Fake({ base: 1, a: 8, b: 9 }, { base: { equal: true, wrong: 'by 1' }, a: { equal: false } });
    const entries = await fake.hold();
    expect(
      winnerOf(
        entries.filter((e) => e.candidate !== 'b'),
        false,
      ),
    ).toBeUndefined();
    expect(winnerOf(entries, true)).toBe('a');
  });

  test('a contest keeps to its time: first what is examined, then how often it is timed', async () => {
    const late = new Fake({ base: 10, a: 5, b: 5 }, {}, 100);
    const entries = await late.hold(190);
    expect(entries.map((e) => e.examined !== undefined)).toEqual([true, true, false]);
    expect(late.log.length).toBe(6);
    // Timing gets half the budget again. A candidate that is cut short does not win.
    const slow = new Fake({ base: 100, a: 50 }, {}, 10);
    const cut = await slow.hold(200);
    expect(slow.log).toEqual(['base', 'a', 'a', 'base']);
    expect(cut.map((e) => e.milliseconds)).toEqual([undefined, undefined]);
    expect(winnerOf(cut, true)).toBe('base');
    const none = await new Fake({ base: 10, a: 5 }, {}, 100).hold(0);
    expect(none.map((e) => e.milliseconds)).toEqual([undefined, undefined]);
    expect(winnerOf(none, true)).toBe('base');
  });
});
