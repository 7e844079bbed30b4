import { hostname, networkInterfaces } from 'node:os';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { WorkerMessage } from '../../cluster/protocol/protocol.js';
import { Inbox } from '../../cluster/transport/inbox.js';
import { MessageRules } from '../../cluster/transport/message-rules.js';
import { FrameMeter } from '../../src/net/frame-meter.js';
import { Hosts, misdirected } from '../../src/net/hosts.js';
import { Places, superfluous } from '../../src/net/places.js';
import { Budget, PersonBudgets } from '../../src/util/budget.js';
import { CONTEXT } from './transport-helpers.js';

const code = (name: string) => expect.objectContaining({ code: name });
const SEED = { seed: 17, numRuns: 200 };

interface WireFrame {
  readonly opcode: number;
  readonly fin: boolean;
  readonly bytes: number;
  readonly masked: boolean;
}

/** RFC 6455, section 5.2, with the shortest length that fits. */
function encodeWireFrame({ opcode, fin, bytes, masked }: WireFrame): Buffer {
  const long = bytes > 0xffff ? 8 : bytes > 125 ? 2 : 0;
  const header = Buffer.alloc(2 + long + (masked ? 4 : 0));
  header[0] = (fin ? 0x80 : 0) | opcode;
  header[1] = (masked ? 0x80 : 0) | (long === 8 ? 127 : long === 2 ? 126 : bytes);
  if (long === 2) header.writeUInt16BE(bytes, 2);
  if (long === 8) header.writeBigUInt64BE(BigInt(bytes), 2);
  return Buffer.concat([header, Buffer.alloc(bytes, 0xff)]);
}

const sizes = fc.oneof(fc.integer({ min: 0, max: 130 }), fc.integer({ min: 65_500, max: 66_000 }));
const control = fc.record({ opcode: fc.constantFrom(8, 9, 10), bytes: fc.integer({ min: 0, max: 125 }) });
/** A message in fragments, with control frames before some of them. */
const message = fc.array(fc.record({ bytes: sizes, before: fc.option(control) }), { minLength: 1, maxLength: 4 });

test('the meter knows every message, in whatever pieces it comes', () => {
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 4 }),
      message,
      fc.boolean(),
      fc.infiniteStream(fc.integer({ min: 1, max: 40_000 })),
      (whole, last, masked, cuts) => {
        const framesOf = (parts: typeof last): WireFrame[] =>
          parts.flatMap(({ bytes, before }, i) => [
            ...(before === null ? [] : [{ ...before, fin: true, masked }]),
            { opcode: i === 0 ? 2 : 0, fin: i === parts.length - 1, bytes, masked },
          ]);
        const complete = whole.flatMap(framesOf);
        const unfinished = framesOf(last);
        const bytes = Buffer.concat([...complete, ...unfinished].map(encodeWireFrame));
        // The last message lacks its last byte, which may belong to its header.
        const sent = bytes.subarray(0, bytes.length - 1);
        const meter = new FrameMeter();
        for (let at = 0; at < sent.length; ) {
          const cut = cuts.next().value;
          meter.read(sent.subarray(at, at + cut));
          at += cut;
        }
        const payload = last.reduce((sum, part) => sum + part.bytes, 0);
        const end = last[last.length - 1].bytes;
        expect(meter.messages).toBe(whole.length);
        expect(meter.isUnfinished).toBe(true);
        expect(meter.declaredBytes).toBe(payload);
        expect(meter.arrivedBytes).toBe(end === 0 ? payload : payload - 1);
        meter.read(bytes.subarray(bytes.length - 1));
        expect(meter).toMatchObject({
          messages: whole.length + 1,
          isUnfinished: false,
          declaredBytes: 0,
          arrivedBytes: 0,
        });
        expect(meter.frames).toBe(complete.length + unfinished.length);
      },
    ),
    SEED,
  );
});

test('a budget refills with time, up to its burst, and says how long a debt lasts', () => {
  const budget = new Budget(100, 50, 0);
  budget.charge(50, 0);
  expect(budget.waitMs(0)).toBe(0);
  budget.charge(10, 0);
  expect(budget.waitMs(0)).toBe(100);
  expect(budget.waitMs(60)).toBeCloseTo(40, 6);
  expect(budget.waitMs(100)).toBe(0);
  expect(budget.isWhole(599)).toBe(false);
  expect(budget.isWhole(600)).toBe(true);
  budget.charge(-1000, 700);
  budget.charge(51, 700);
  expect(budget.waitMs(700)).toBe(10);
});

test('budgets of many persons are forgotten once they are whole, and never more than so many', () => {
  const budgets = new PersonBudgets(1, 1, 3);
  const debtor = budgets.of('debtor');
  debtor.charge(1000);
  for (let i = 0; i < 10; i++) budgets.of(`person ${i}`);
  expect(budgets.of('debtor')).toBe(debtor);
  for (let i = 0; i < 10; i++) budgets.of(`person ${i}`).charge(1000);
  expect(budgets.of('debtor')).not.toBe(debtor);
});

test('whoever has most places gives his oldest up for a newcomer who has fewer', () => {
  const places = new Places<string>(4);
  for (const name of ['a1', 'b1', 'a2', 'a3']) expect(places.take(name, name[0])).toEqual({});
  expect(places.take('c1', 'c')).toEqual({ leaves: 'a1' });
  expect(places.take('d1', 'd')).toEqual({ leaves: 'a2' });
  expect([...places]).toEqual(['b1', 'a3', 'c1', 'd1']);
  // Each person has one place, none for long.
  expect(places.take('e1', 'e')).toBe('full');
  expect(places.take('a4', 'a')).toBe('full');
  places.leave('b1');
  places.leave('b1');
  expect(places.take('a4', 'a')).toEqual({});
  expect(places.take('e1', 'e')).toEqual({ leaves: 'a3' });
});

test('the oldest gives up its place after a time to whoever comes, also of the same person', () => {
  const places = new Places<string>(2, -1);
  places.take('a1', 'a');
  places.take('b1', 'b');
  expect(places.take('c1', 'c')).toEqual({ leaves: 'a1' });
  expect(places.take('c2', 'c')).toEqual({ leaves: 'c1' });
  expect([...places]).toEqual(['b1', 'c2']);
});

test('no more places are given than there are, and one person alone leaves one for everybody else', () => {
  const names = fc.constantFrom('attacker', 'a', 'b', 'c');
  fc.assert(
    fc.property(fc.array(fc.record({ name: names, leaves: fc.boolean() }), { maxLength: 60 }), (moves) => {
      const places = new Places<{ readonly name: string }>(6);
      for (let i = 0; i < 6; i++) places.take({ name: 'attacker' }, 'attacker');
      for (const { name, leaves } of moves) {
        const [first] = places;
        if (leaves && first !== undefined) places.leave(first);
        else {
          const had = [...places].filter((one) => one.name === name).length;
          const result = places.take({ name }, name);
          if (name !== 'attacker' && had === 0) expect(result).not.toBe('full');
        }
        expect(places.size).toBe([...places].length);
        expect(places.size).toBeLessThanOrEqual(6);
      }
    }),
    SEED,
  );
});

test('who has more than half of all places loses the newest to somebody else', () => {
  const person = (name: string) => name[0];
  expect(superfluous(['a1', 'b1', 'a2', 'a3'], person, 4, 'c')).toBe('a3');
  expect(superfluous(['a1', 'b1', 'a2', 'a3'], person, 4, 'a')).toBeUndefined();
  expect(superfluous(['a1', 'b1', 'a2', 'b2'], person, 4, 'c')).toBeUndefined();
});

test('a machine is known by its names and by addresses, and by no other name', () => {
  const hosts = new Hosts({ host: '0.0.0.0', names: ['gpu.example'] });
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const known = [
    'localhost',
    'LOCALHOST:7070',
    '127.0.0.1',
    '127.9.9.9:1',
    '[::1]:7070',
    hostname(),
    `${hostname()}.local:7070`,
  ];
  known.push('gpu.example', 'GPU.example.:443', '[2001:db8:0::7]:80', '192.0.2.1');
  for (const { address, family } of own)
    known.push(family === 'IPv6' ? `[${address.replace(/%.*/, '')}]:7070` : `${address}:7070`);
  for (const host of known) expect(hosts.includes(host), host).toBe(true);
  const unknown = [
    'evil.example',
    'evil.example:7070',
    '0.0.0.0:7070',
    '[::]',
    'localhost.evil.example',
    'gpu.example.evil.example',
  ];
  for (const host of [...unknown, '', ':7070', 'a b', undefined, '[::1', '::1:7070'])
    expect(hosts.includes(host), host).toBe(false);
  expect(new Hosts({ host: 'lab.example', names: [] }).includes('lab.example:7070')).toBe(true);
  expect(misdirected('evil\u001b[2J.example:80')).toMatch(/^[\x20-\x7e]+$/);
  expect(misdirected('x'.repeat(5000)).length).toBeLessThan(250);
});

test('a worker joins once, names each probe once, and everything in a list once', () => {
  const rules = new MessageRules();
  const hash = '0'.repeat(64);
  const say = (message: WorkerMessage) => () => rules.check(message, { ...CONTEXT, kinds: ['contribution'] });
  const join = { type: 'join', name: 'a', adapter: 'none' } as const;
  expect(say({ type: 'ready' })).toThrow(code('LT_CLUSTER_MALFORMED'));
  say(join)();
  expect(say(join)).toThrow(code('LT_CLUSTER_LIMIT'));
  say({ type: 'probed', probe: 'reference', hash })();
  say({ type: 'probed', probe: 'run', hash })();
  expect(say({ type: 'probed', probe: 'run', hash })).toThrow(code('LT_CLUSTER_LIMIT'));
  expect(say({ type: 'mismatch', buckets: [0, 1, 2] })()).toBeGreaterThan(0);
  expect(say({ type: 'mismatch', buckets: [1, 1] })).toThrow(code('LT_CLUSTER_MALFORMED'));
  expect(say({ type: 'mismatch', buckets: [0, 1, 2, 3, 4] })).toThrow(code('LT_CLUSTER_MALFORMED'));
  expect(say({ type: 'handed-back', assignment: 1, microBatches: [2, 2] })).toThrow(code('LT_CLUSTER_MALFORMED'));
  // An evaluation may have more micro-batches than a step.
  const many = Array.from({ length: CONTEXT.microBatches + 1 }, (_, i) => i);
  expect(say({ type: 'handed-back', assignment: 1, microBatches: many })()).toBe(0);
});

/** An inbox whose messages say how many milliseconds to spend on them. */
function inboxOf(...budgets: Budget[]) {
  const handled: number[] = [];
  const errors: unknown[] = [];
  let isPaused = false;
  const inbox = new Inbox({
    wire: {
      pause: () => {
        isPaused = true;
      },
      resume: () => {
        isPaused = false;
      },
    },
    handle: ({ bytes }) => {
      handled.push(bytes[0]);
      for (const end = performance.now() + bytes[0]; performance.now() < end; );
    },
    guard: (work) => {
      try {
        work();
      } catch (error) {
        errors.push(error);
        inbox.close();
      }
    },
    bytesSent: () => 0,
    budgets,
  });
  return {
    inbox,
    handled,
    errors,
    isPaused: () => isPaused,
    arrive: (ms: number) => inbox.arrive({ bytes: Uint8Array.of(ms) }),
  };
}

test('messages of who has used up its budget wait, in their order, and the socket with them', async () => {
  const { inbox, handled, isPaused, arrive } = inboxOf(new Budget(100, 10));
  arrive(0);
  expect(handled).toEqual([]);
  inbox.listen();
  expect(handled).toEqual([0]);
  arrive(20);
  expect(isPaused()).toBe(true);
  for (const ms of [1, 2, 0]) arrive(ms);
  expect(handled).toEqual([0, 20]);
  while (handled.length < 5) await new Promise((go) => setTimeout(go, 5));
  expect(handled).toEqual([0, 20, 1, 2, 0]);
  while (isPaused()) await new Promise((go) => setTimeout(go, 5));
  inbox.earn(1000);
  arrive(5);
  expect(handled.at(-1)).toBe(5);
  inbox.close();
});

test('who would wait for most of the time, and long, is closed; what waits gives its bytes back', () => {
  const { inbox, handled, arrive } = inboxOf(new Budget(1, 1));
  inbox.listen();
  expect(() => arrive(30)).toThrow(code('LT_CLUSTER_LIMIT'));
  expect(handled).toEqual([30]);
  const late = inboxOf(new Budget(1, 1));
  let released = 0;
  late.inbox.arrive({ bytes: Uint8Array.of(1), release: () => released++ });
  late.inbox.close();
  expect(released).toBe(1);
});

test('who waits since others of its address used their budget up waits, and is not closed', () => {
  const shared = new Budget(1, 1);
  const { inbox, handled, isPaused, arrive } = inboxOf(new Budget(100, 1000), shared);
  inbox.listen();
  shared.charge(60);
  arrive(0);
  expect(handled).toEqual([0]);
  expect(isPaused()).toBe(true);
  inbox.close();
});
