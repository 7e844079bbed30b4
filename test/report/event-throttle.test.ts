import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Refusals } from '../../cluster/refusals.js';
import { LantrainError } from '../../src/errors.js';
import { bitClassesOf } from '../../src/report/bit-classes.js';
import { EventThrottle, type MemberEvent } from '../../src/report/event-throttle.js';
import { LineBudget } from '../../src/report/line-budget.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const MINUTE = 60_000;

test('a budget gives each its own, to all of a kind no more than a share, and is filled again by time', () => {
  const budget = new LineBudget({
    all: { burst: 6, perMinute: 6 },
    kind: { burst: 4, perMinute: 4 },
    person: { burst: 2, perMinute: 1 },
  });
  const taken = (kind: string, person: string, times: number) =>
    Array.from({ length: times }, () => budget.take(kind, person)).filter((may) => may).length;
  expect(taken('a', 'eve', 100)).toBe(2);
  expect(taken('a', 'bob', 1), 'who floods takes nothing from others').toBe(1);
  for (let i = 0; i < 5000; i++) budget.take('a', `name ${i}`);
  expect(taken('a', 'carol', 1), 'but names without end are one flood').toBe(0);
  expect(taken('b', 'carol', 5)).toBe(2);
  expect(taken('c', 'carol', 5), 'all are too many').toBe(0);
  vi.advanceTimersByTime(MINUTE);
  expect(taken('a', 'dave', 5)).toBe(2);
});

/** What is written of `events` that come every `everyMs`. */
function written(events: Iterable<MemberEvent>, everyMs: number): MemberEvent[] {
  const lines: MemberEvent[] = [];
  const throttle = new EventThrottle<MemberEvent>((one) => void lines.push(one));
  for (const one of events) {
    throttle.add(one);
    vi.advanceTimersByTime(everyMs);
  }
  throttle.flush();
  return lines;
}

const sum = (lines: readonly MemberEvent[], event: string) =>
  lines.filter((one) => one.event === event).reduce((all, { count = 1 }) => all + count, 0);

describe('events that members cause', () => {
  function* loop(times: number, nameOf: (i: number) => string, classOf: (i: number) => string) {
    for (let i = 0; i < times; i++) {
      yield { event: 'join', step: i, worker: nameOf(i), reason: `bit class ${classOf(i)}` };
      yield {
        event: 'mixed',
        step: i,
        worker: nameOf(i),
        reason: `bit class ${classOf(i)}, the owner's is own-1: ...`,
      };
      yield { event: 'leave', step: i, worker: nameOf(i), reason: 'it left' };
    }
  }

  test('events of members are written one by one where they are few: a class of thirty that joins and leaves', () => {
    const all = [
      ...loop(
        30,
        (i) => `w${i}`,
        () => 'own-1',
      ),
    ];
    expect(written(all, 10)).toEqual(all);
  });

  test('events of one who comes and goes all the time are few a minute, and none is lost from the count', () => {
    // Ten minutes.
    const lines = written(
      loop(
        10_000,
        () => 'eve',
        () => 'liar-1',
      ),
      20,
    );
    expect(lines.length).toBeLessThan(10 * 3 * (6 + 1) + 30);
    for (const event of ['join', 'mixed', 'leave']) expect(sum(lines, event)).toBe(10_000);
    expect(lines.at(-1)).toEqual({
      event: 'leave',
      step: 9999,
      worker: 'eve',
      reason: 'it left',
      count: expect.any(Number),
    });
  });

  test('events of one with a new name and bit class each time are as few; others are named still, mixed stays mixed', () => {
    const flood = [
      ...loop(
        6000,
        (i) => `eve ${i}`,
        (i) => `liar-${i}`,
      ),
    ];
    const honest = { event: 'join', step: 9, worker: 'bob', reason: 'bit class other-2' };
    const lines = written([flood[0], honest, ...flood.slice(1), honest], 20);
    // Six minutes of 30 of each kind, after a burst of 100.
    expect(lines.length).toBeLessThan(3 * (100 + 6 * 30 + 7 * 5));
    for (const event of ['mixed', 'leave']) expect(sum(lines, event)).toBe(6000);
    expect(sum(lines, 'join')).toBe(6002);
    const { classes, mixed } = bitClassesOf(lines as never);
    expect(mixed).toBe(true);
    expect(classes).toEqual(expect.arrayContaining(['own-1', 'other-2', 'liar-0']));
    expect(lines.some(({ worker, count }) => worker === undefined && Number(count) > 100)).toBe(true);
  });

  test('events of members are told a minute later at the latest', () => {
    const lines: MemberEvent[] = [];
    const throttle = new EventThrottle<MemberEvent>((one) => void lines.push(one));
    for (let i = 0; i < 50; i++) throttle.add({ event: 'leave', worker: 'eve', reason: 'it left' });
    const before = lines.length;
    vi.advanceTimersByTime(MINUTE);
    expect(lines.slice(before)).toEqual([{ event: 'leave', worker: 'eve', reason: 'it left', count: 50 - before }]);
    vi.advanceTimersByTime(10 * MINUTE);
    expect(lines.length).toBe(before + 1);
  });
});

describe('strangers that are not let in', () => {
  const why = (code: 'LT_CLUSTER_TOKEN' | 'LT_CLUSTER_TIMEOUT', text = 'wrong token') => new LantrainError(code, text);

  function refusals() {
    const lines: string[] = [];
    return { lines, all: new Refusals((text) => void lines.push(text)) };
  }

  test('strangers have some lines a minute, the rest is counted with its addresses', () => {
    const { lines, all } = refusals();
    for (let i = 0; i < 1238; i++) all.add(why('LT_CLUSTER_TOKEN'), `10.0.0.${i % 3}:${1000 + i}`);
    expect(lines.length).toBe(8);
    expect(lines[0]).toBe('10.0.0.0:1000: wrong token');
    vi.advanceTimersByTime(MINUTE);
    expect(lines.slice(8)).toEqual(['1,230 more in the last minute, of 3 addresses (LT_CLUSTER_TOKEN 1,230)']);
    vi.advanceTimersByTime(10 * MINUTE);
    expect(lines.length).toBe(9);
  });

  test('strangers of one address leave room for others, and those of addresses without end are bounded', () => {
    const { lines, all } = refusals();
    for (let i = 0; i < 100; i++) all.add(why('LT_CLUSTER_TIMEOUT', 'late'), `10.0.0.1:${i}`);
    all.add(why('LT_CLUSTER_TIMEOUT', 'late'), '[fd00::2]:9', 'a page of ');
    expect(lines.at(-1)).toBe('a page of [fd00::2]:9: late');
    for (let i = 0; i < 20_000; i++) all.add(why('LT_CLUSTER_TOKEN'), `[fd00::${i.toString(16)}]:1`);
    all.flush();
    expect(lines.length).toBeLessThan(30);
    expect(lines.at(-1)).toMatch(/^20,0\d\d more .* of 1,000 addresses or more \(LT_CLUSTER_TOKEN 19,/);
  });

  test('strangers have no more lines for having many addresses of one network of IPv6', () => {
    const { lines, all } = refusals();
    for (let i = 0; i < 100; i++) all.add(why('LT_CLUSTER_TOKEN'), `[fd00:1:2:3::${i}]:1`);
    all.add(why('LT_CLUSTER_TOKEN'), '10.0.0.1:5');
    expect(lines.at(-1)).toBe('10.0.0.1:5: wrong token');
  });

  test('strangers say one line each, whatever they say, and not a long one', () => {
    const { lines, all } = refusals();
    all.add(why('LT_CLUSTER_TOKEN', `\u001b[2J\nadmin    https://evil${'x'.repeat(9999)}`), '10.0.0.1:1');
    for (const text of lines) {
      expect(text).toContain('␛[2J␊admin');
      expect(text.length).toBeLessThan(400);
    }
  });
});
