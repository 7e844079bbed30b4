import fc from 'fast-check';
import { expect, test } from 'vitest';
import { payloadChecksum } from '../../cluster/exchange/checksum.js';
import {
  decodeFrame,
  encodeFrame,
  type FrameContext,
  HEADER_BYTES,
  isFrame,
  payloadIntact,
  type WeightsHeader,
} from '../../cluster/protocol/frame.js';
import { checkMessagePack } from '../../cluster/protocol/message-pack.js';
import {
  COORDINATOR_MESSAGES,
  dispatch,
  END_REASONS,
  type EndReason,
  onlyFromCoordinator,
  onlyFromWorker,
  stopBecause,
  type Welcome,
  WORKER_MESSAGES,
  type WorkerMessage,
} from '../../cluster/protocol/protocol.js';
import { microBatchSet, setOf } from '../../cluster/round/sets.js';
import {
  COORDINATOR_TRANSPORT,
  decodeCoordinatorMessage,
  decodeWorkerMessage,
  encodeMessage,
  type FromWorker,
  WORKER_TRANSPORT,
} from '../../cluster/transport/messages.js';
import { LantrainError } from '../../src/errors.js';
import { defaultPlan } from '../../src/model/plan.js';
import { contribution } from './transport-helpers.js';

const CONTEXT: FrameContext = {
  incarnation: 3,
  buckets: 10,
  microBatches: 16,
  kinds: ['contribution', 'weights-whole', 'weights-difference'],
};

function weights(kind: WeightsHeader['kind'], fields: Partial<WeightsHeader>): WeightsHeader {
  const address = { incarnation: 1, assignment: 0, step: 4, base: 3, bucket: 0 };
  return { kind, ...address, weights: { a: 0, b: 0 }, exponent: 0, ...fields };
}

const malformed = expect.objectContaining({ code: 'LT_CLUSTER_MALFORMED' });

const checksum = (words: Uint32Array) => payloadChecksum(new Uint8Array(words.buffer));

test('the checksum is the sum its documentation says, in any order of adding', () => {
  fc.assert(
    fc.property(fc.uint32Array({ maxLength: 50 }), (words) => {
      let [a, b] = [0n, 0n];
      words.forEach((w, i) => {
        a += BigInt(w);
        b += BigInt((w ^ (w >>> 16)) >>> 0) * BigInt(2 * i + 1);
      });
      const mask = 0xffffffffn;
      expect(checksum(words)).toEqual({ a: Number(a & mask), b: Number(b & mask) });
    }),
  );
});

test('the checksum sees every flipped bit, every pair of flipped sign bits and every swap', () => {
  fc.assert(
    fc.property(fc.uint32Array({ minLength: 2, maxLength: 40 }), fc.nat(), fc.nat(), fc.nat(31), (words, x, y, bit) => {
      const [i, j] = [x % words.length, y % words.length];
      const before = checksum(words);
      const one = words.slice();
      one[i] ^= 1 << bit;
      expect(checksum(one)).not.toEqual(before);
      if (i === j) return;
      const two = words.slice();
      two[i] ^= 0x80000000;
      two[j] ^= 0x80000000;
      expect(checksum(two)).not.toEqual(before);
      const swapped = words.slice();
      [swapped[i], swapped[j]] = [swapped[j], swapped[i]];
      if (words[i] !== words[j]) expect(checksum(swapped)).not.toEqual(before);
    }),
  );
});

test('frames come out as they went in, without a copy of an aligned payload', () => {
  const header = fc.oneof(
    fc.record({
      kind: fc.constant('contribution' as const),
      incarnation: fc.integer({ min: 1, max: 3 }),
      assignment: fc.integer({ min: 1, max: 0xffffffff }),
      step: fc.integer({ min: 1, max: 0xffffffff }),
      bucket: fc.nat(9),
      microBatches: fc.array(fc.nat(15), { minLength: 1 }).map((list) => microBatchSet(list)),
    }),
    fc.record({
      kind: fc.constant('weights-difference' as const),
      incarnation: fc.integer({ min: 1, max: 3 }),
      assignment: fc.constant(0),
      step: fc.integer({ min: 8, max: 0xffffffff }),
      bucket: fc.nat(9),
      base: fc.nat(7),
      weights: fc.record({ a: fc.nat(), b: fc.nat() }),
      exponent: fc.integer({ min: -60, max: 40 }),
    }),
  );
  fc.assert(
    fc.property(header, fc.uint32Array({ maxLength: 300 }), (wanted, words) => {
      const payload = new Uint8Array(words.buffer);
      const message = encodeFrame(wanted, payload);
      expect(isFrame(message)).toBe(true);
      const frame = decodeFrame(message, CONTEXT);
      expect(frame.header).toEqual(wanted);
      expect(frame.payload).toEqual(payload);
      expect(frame.payload.buffer).toBe(message.buffer);
      expect(frame.payloadChecksum).toEqual(payloadChecksum(payload));
      expect(payloadIntact(frame)).toBe(true);
    }),
  );
});

test('a frame at an odd offset is read all the same', () => {
  const message = encodeFrame(contribution(), Uint8Array.of(1, 2, 3, 4));
  const shifted = new Uint8Array(message.length + 1);
  shifted.set(message, 1);
  const frame = decodeFrame(shifted.subarray(1), CONTEXT);
  expect([...frame.payload]).toEqual([1, 2, 3, 4]);
  expect(payloadIntact(frame)).toBe(true);
});

test('a changed bit of the header is refused, of the payload found by its checksum', () => {
  const message = encodeFrame(contribution(), new Uint8Array(64).fill(9));
  fc.assert(
    fc.property(fc.nat(message.length - 1), fc.nat(7), (at, bit) => {
      const changed = message.slice();
      changed[at] ^= 1 << bit;
      if (at < HEADER_BYTES) expect(() => decodeFrame(changed, CONTEXT)).toThrow(malformed);
      else expect(payloadIntact(decodeFrame(changed, CONTEXT))).toBe(false);
    }),
    { numRuns: 500 },
  );
});

test.each([
  ['a later incarnation', contribution({ incarnation: 4 }), /incarnation 4/],
  ['no incarnation', contribution({ incarnation: 0 }), /incarnation 0/],
  ['a bucket past the last', contribution({ bucket: 10 }), /bucket 10 of 10/],
  ['a micro-batch past the last', contribution({ microBatches: microBatchSet([16]) }), /micro-batch 16 of 16/],
  ['no micro-batch', contribution({ microBatches: microBatchSet([]) }), /without micro-batches/],
  ['step 0', contribution({ step: 0 }), /count from 1/],
  ['a difference from later weights', weights('weights-difference', { base: 4 }), /cannot be told/],
  ['differences of too small a unit', weights('weights-difference', { exponent: -61 }), /exponent -61/],
  ['differences of too large a unit', weights('weights-difference', { exponent: 41 }), /exponent 41/],
  ['whole weights in units', weights('weights-whole', { base: 0, exponent: -1 }), /exponent -1/],
])('a frame with %s is impossible', (_, header, why) => {
  const message = encodeFrame(header, new Uint8Array(4));
  expect(() => decodeFrame(message, CONTEXT)).toThrow(malformed);
  expect(() => decodeFrame(message, CONTEXT)).toThrow(why);
});

test('an earlier incarnation or step is for the caller to judge', () => {
  const message = encodeFrame(contribution({ incarnation: 2, step: 1 }), new Uint8Array(4));
  expect(decodeFrame(message, CONTEXT).header).toMatchObject({ incarnation: 2, step: 1 });
});

test('a kind that this side does not take is refused', () => {
  const message = encodeFrame(contribution(), new Uint8Array(4));
  expect(() => decodeFrame(message, { ...CONTEXT, kinds: ['weights-whole'] })).toThrow(malformed);
});

test('the set of a contribution lies in its header, micro-batch m at bit m % 8 of byte m / 8', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(15), { minLength: 1 }), (list) => {
      // The round's set for a step of 16 micro-batches, which is shorter than the header's field.
      const frame = encodeFrame(contribution({ microBatches: setOf(16, list) }), new Uint8Array(4));
      const bits = Array.from({ length: 1024 }, (_, m) => (frame[40 + (m >> 3)] >> (m & 7)) & 1);
      expect(bits.flatMap((bit, m) => (bit === 1 ? [m] : []))).toEqual([...list].sort((a, b) => a - b));
    }),
  );
});

test('random bytes and truncated frames are malformed and nothing else', () => {
  const frame = encodeFrame(contribution(), new Uint8Array(256));
  const cut = fc.nat(frame.length - 1).map((n) => frame.subarray(0, n));
  const tail = fc.uint8Array({ maxLength: 400 }).map((bytes) => Uint8Array.of(...frame.subarray(0, 40), ...bytes));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), cut, tail), (bytes) => {
      expect(() => decodeFrame(bytes, CONTEXT)).toThrow(malformed);
    }),
    { numRuns: 1000 },
  );
});

test('control messages come out as they went in', () => {
  const messages: FromWorker[] = [
    { type: 'join', name: 'a', adapter: 'b' },
    { type: 'join', name: 'a', adapter: 'b', lacksShaders: true },
    { type: 'ping', at: 1.5 },
    { type: 'progress', assignment: 4, begun: 3, done: 2 },
    { type: 'handed-back', assignment: 7, microBatches: [1, 5, 1023] },
    { type: 'evaluated', assignment: 1, low: 0xffffffff, high: 0x80000000, microBatches: [0, 1023], finite: true },
  ];
  for (const message of messages) expect(decodeWorkerMessage(encodeMessage(message))).toEqual(message);
  const assign = {
    type: 'assign' as const,
    assignment: 1,
    step: 2,
    microBatches: [{ microBatch: 3, slot: 6, ids: Uint8Array.of(1, 2, 3, 4) }],
  };
  const decoded = decodeCoordinatorMessage(encodeMessage(assign));
  expect(decoded).toMatchObject({ type: 'assign', assignment: 1, step: 2 });
  if (decoded.type === 'assign') expect([...decoded.microBatches[0].ids]).toEqual([1, 2, 3, 4]);
});

test('a welcome names the wire in the shape; without a name it is exact, and no other name is taken', () => {
  const shape = { batch: 1, context: 8, dropout: 0, precision: 'portable' } as const;
  const welcome = (more: object): Welcome => ({
    type: 'welcome',
    worker: 1,
    incarnation: 1,
    step: 1,
    model: { vocabSize: 61, context: 8, width: 24, layers: 1, heads: 3, tie: false, qkvBias: true },
    plan: defaultPlan({ software: true, subgroupSize: 8 } as Parameters<typeof defaultPlan>[0]),
    shape: { ...shape, ...more },
    seed: 1,
    microBatches: 4,
    tokensPerStep: 32,
    buckets: 3,
  });
  const decoded = (more: object) => decodeCoordinatorMessage(encodeMessage(welcome(more)));
  expect(decoded({})).toEqual(welcome({}));
  expect(decoded({ wire: 'low' })).toMatchObject({ shape: { wire: 'low' } });
  for (const wire of ['lower', 1, null]) expect(() => decoded({ wire })).toThrow(malformed);
});

test('a stop says why by a reason of the list, and is final only where the run is done', () => {
  for (const reason of Object.keys(END_REASONS) as EndReason[]) {
    const stop = stopBecause(reason);
    expect(stop).toEqual({ type: 'stop', reason, final: reason === 'done' });
    expect(decodeCoordinatorMessage(encodeMessage(stop))).toEqual(stop);
  }
  const prose = { type: 'stop', reason: 'the run is done', final: true } as never;
  expect(() => decodeCoordinatorMessage(encodeMessage(prose))).toThrow(malformed);
});

test('a table of some handlers refuses every other message', () => {
  const heard: string[] = [];
  const handlers = onlyFromWorker({ leave: ({ reason }) => heard.push(reason) });
  dispatch(handlers, { type: 'leave', reason: 'enough' });
  expect(() => dispatch(handlers, { type: 'ready' })).toThrow(malformed);
  expect(() => dispatch(onlyFromCoordinator({}), stopBecause('done'))).toThrow(malformed);
  expect(heard).toEqual(['enough']);
});

test('wrong types, missing, surplus and out-of-range fields are malformed', () => {
  const send = (message: unknown) => () => decodeWorkerMessage(encodeMessage(message as WorkerMessage));
  for (const message of [
    { type: 'progress', assignment: 4, begun: 3 },
    { type: 'progress', assignment: 4, begun: 3, done: 2, more: 1 },
    { type: 'progress', assignment: '4', begun: 3, done: 2 },
    { type: 'progress', assignment: 4.5, begun: 3, done: 2 },
    { type: 'progress', assignment: Number.NaN, begun: 3, done: 2 },
    { type: 'progress', assignment: -1, begun: 3, done: 2 },
    { type: 'progress', assignment: 4, begun: 3000, done: 2 },
    { type: 'handed-back', assignment: 7, microBatches: [1024] },
    { type: 'handed-back', assignment: 7, microBatches: { length: 1 } },
    { type: 'hello', protocol: 1, version: 'x', nonce: new Uint8Array(31) },
    { type: 'join', name: 'x'.repeat(1001), adapter: '' },
    { type: 'constructor' },
    { type: '__proto__' },
    { type: 'commit', step: 1 },
    {},
  ])
    expect(send(message), JSON.stringify(message)).toThrow(malformed);
});

test('random bytes are malformed control messages and nothing else', () => {
  const decoders = [decodeWorkerMessage, decodeCoordinatorMessage];
  const type = fc.constantFrom(
    ...[WORKER_MESSAGES, COORDINATOR_MESSAGES, WORKER_TRANSPORT, COORDINATOR_TRANSPORT].flatMap(Object.keys),
  );
  const object = fc.tuple(type, fc.object()).map(([name, rest]) => encodeMessage({ ...rest, type: name } as never));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), object), fc.nat(1), (bytes, which) => {
      try {
        decoders[which](bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(LantrainError);
        expect(error).toEqual(malformed);
      }
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ['an array of 2^32 - 1', [0x81, 0xa1, 0x61, 0xdd, 0xff, 0xff, 0xff, 0xff]],
  ['a map of 2^31', [0xdf, 0x80, 0, 0, 0]],
  ['bytes that are not there', [0x81, 0xa1, 0x61, 0xc6, 0x7f, 0xff, 0xff, 0xff]],
  ['a record of msgpackr', [0x81, 0xa1, 0x61, 0xd4, 0x72, 0x40]],
  ['an extension', [0x81, 0xa1, 0x61, 0xc7, 4, 0x74, 1, 2, 3, 4]],
  ['deep nesting', [0x81, 0xa1, 0x61, ...Array<number>(100_000).fill(0x91), 0xc0]],
  ['bytes after its end', [0x80, 0xc0]],
  ['an array', [0x91, 0xc0]],
  ['nothing', []],
])('%s is refused before anything is allocated for it', (_, bytes) => {
  expect(() => checkMessagePack(Uint8Array.from(bytes))).toThrow(malformed);
});
