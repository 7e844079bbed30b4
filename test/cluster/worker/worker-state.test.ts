import { expect, test } from 'vitest';
import type { Frame } from '../../../cluster/protocol/frame.js';
import type { WorkerMessage } from '../../../cluster/protocol/protocol.js';
import type { Work } from '../../../cluster/worker/work.js';
import { WorkerState } from '../../../cluster/worker/worker-state.js';
import { LantrainError } from '../../../src/errors.js';

/** The state of a worker with two buckets, and its output. */
function worker() {
  const said: WorkerMessage[] = [];
  const queued: Work[] = [];
  const dropped: Work[] = [];
  const state = new WorkerState([64, 64], {
    send: (message) => void said.push(message),
    weightsDue: () => {},
    queue: (work) => void queued.push(work),
    drop: (work) => void dropped.push(work),
  });
  return { state, said, queued, dropped };
}

const SUM = { a: 7, b: 9 };

function frame(step: number, bucket: number, kind: 'whole' | 'difference'): Frame {
  const base = kind === 'whole' ? 0 : step - 1;
  return {
    header: { kind: `weights-${kind}`, incarnation: 1, assignment: 0, step, base, bucket, weights: SUM, exponent: 0 },
    payload: new Uint8Array(64),
    payloadChecksum: SUM,
    bytes: 64,
  };
}

const deal = (assignment: number, step: number, count = 3) => ({
  assignment,
  kind: 'step' as const,
  step,
  microBatches: Array.from({ length: count }, (_, microBatch) => ({
    microBatch,
    slot: microBatch,
    ids: new Uint8Array(4),
  })),
});

/** Applies due weights. Returns the applied buckets, and the complete version. */
function apply(state: WorkerState, onFrame: (frame: Frame) => void = () => {}) {
  const applied: string[] = [];
  const complete = state.applyDue((one) => {
    onFrame(one);
    applied.push(`${one.header.step} ${one.header.bucket}`);
  });
  return { applied, complete };
}

function atVersion(version: number) {
  const one = worker();
  one.state.announce(version);
  for (const bucket of [0, 1]) void one.state.frame(frame(version, bucket, 'whole'));
  const { complete } = apply(one.state);
  expect(complete).toBe(version);
  expect(one.state.verify(version, [SUM, SUM])).toBe(true);
  one.said.length = 0;
  return one;
}

test('weights are verified once every bucket is of the committed version, and that is told', () => {
  const { state, said } = worker();
  state.announce(4);
  void state.frame(frame(4, 0, 'whole'));
  expect(apply(state)).toEqual({ applied: ['4 0'], complete: undefined });
  void state.frame(frame(4, 1, 'whole'));
  expect(apply(state)).toEqual({ applied: ['4 1'], complete: 4 });
  expect(state.verified).toBe(-1);
  expect(state.verify(4, [SUM, SUM])).toBe(true);
  expect(state.verified).toBe(4);
  expect(said).toEqual([{ type: 'ready' }]);
});

test('a bucket with another checksum is asked for whole, and differences to it are passed over until then', () => {
  const { state, said } = atVersion(4);
  for (const bucket of [0, 1]) void state.frame(frame(5, bucket, 'difference'));
  expect(apply(state).applied).toEqual([]);
  state.announce(5);
  expect(apply(state)).toEqual({ applied: ['5 0', '5 1'], complete: 5 });
  expect(state.verify(5, [SUM, { a: 7, b: 8 }])).toBe(false);
  expect(said).toEqual([{ type: 'mismatch', buckets: [1] }]);
  expect(state.verified).toBe(4);
  state.announce(6);
  for (const bucket of [0, 1]) void state.frame(frame(6, bucket, 'difference'));
  expect(apply(state)).toEqual({ applied: ['6 0'], complete: undefined });
  void state.frame(frame(6, 1, 'whole'));
  expect(apply(state)).toEqual({ applied: ['6 1'], complete: 6 });
});

test('a malformed difference is asked for whole, and the other buckets are applied', () => {
  const { state, said } = atVersion(4);
  state.announce(5);
  for (const bucket of [0, 1]) void state.frame(frame(5, bucket, 'difference'));
  const { applied, complete } = apply(state, ({ header }) => {
    if (header.bucket === 0) throw new LantrainError('LT_CLUSTER_FRAME', 'malformed blocks');
  });
  expect({ applied, complete }).toEqual({ applied: ['5 1'], complete: undefined });
  expect(said).toEqual([{ type: 'mismatch', buckets: [0] }]);
});

test('what has begun is not handed back, and every contribution names what has begun', () => {
  const { state, said, queued } = atVersion(4);
  state.deal(deal(1, 5));
  const [work] = queued;
  expect(work.version).toBe(4);
  work.take();
  state.progress(work, 0);
  state.handBack(1, [0, 2, 7]);
  state.handBack(9, [0]);
  expect(work.isFixed).toBe(false);
  expect(work.take().map(({ microBatch }) => microBatch)).toEqual([1]);
  expect(work.isFixed).toBe(true);
  expect(said).toEqual([
    { type: 'progress', assignment: 1, begun: 1, done: 0 },
    { type: 'handed-back', assignment: 1, microBatches: [2] },
    { type: 'handed-back', assignment: 9, microBatches: [] },
  ]);
  const { step, assignment, microBatches } = work.contribution(2, 0);
  expect({ step, assignment, set: microBatches[0] }).toEqual({ step: 5, assignment: 1, set: 0b11 });
});

test('a revoked assignment is dropped before it runs, and ends by itself where it does', () => {
  const { state, queued, dropped } = atVersion(4);
  state.deal(deal(1, 5));
  state.deal(deal(2, 5));
  queued[0].running = true;
  state.revoke(1);
  state.revoke(2);
  expect(queued.map(({ revoked }) => revoked)).toEqual([true, true]);
  expect(dropped).toEqual([queued[1]]);
});

test('the losses of an evaluation come back with the set that they are of', () => {
  const { state, said, queued } = atVersion(4);
  state.deal({ ...deal(3, 4, 2), kind: 'evaluate' });
  const [work] = queued;
  expect(work.version).toBe(4);
  work.take(2);
  state.evaluated(work, -1n, true);
  expect(said).toEqual([
    { type: 'evaluated', assignment: 3, microBatches: [0, 1], low: 0xffffffff, high: 0xffffffff, finite: true },
  ]);
});
