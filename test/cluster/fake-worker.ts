import { beforeAll } from 'vitest';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import { packLoss, packSums } from '../../cluster/exchange/blocks.js';
import { encodeFrame, type Frame } from '../../cluster/protocol/frame.js';
import type { CoordinatorMessage, Welcome, WorkerMessage } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import type { LantrainError } from '../../src/errors.js';
import { Gpu } from '../../src/gpu/device.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { GRID_BLOCK, gridExponent } from '../../src/model/grid.js';
import { openDawn } from '../../src/node/dawn.js';
import { packLowSums } from '../reference/low-blocks.js';
import { closeClusters, HASH, MICRO_BATCHES, SHAPE, type SmallCluster, startCluster } from './small-cluster.js';
import { closing, join, type TestServer } from './transport-helpers.js';

/* Workers without an adapter, driven by tests, and clusters for them. */

export let gpu: Gpu;

export type Cluster = SmallCluster;

/** Opens an adapter for the tests of a file; closes each test's clusters after it. */
export function setUpClusters(): void {
  beforeAll(async () => {
    gpu = await Gpu.open(openDawn());
  });
  closeClusters();
}

/** A real coordinator on loopback, with several small buckets. */
export function cluster(more: Partial<ClusterOptions> = {}): Promise<Cluster> {
  return startCluster(gpu, more);
}

export const batches = (count = MICRO_BATCHES): MicroBatch[] =>
  Array.from({ length: count }, (_, i) => ({
    tokens: new Uint32Array(SHAPE.context).fill(i % 61),
    targets: new Uint32Array(SHAPE.context).fill(i % 61),
    firstSlot: i,
  }));

type Received = CoordinatorMessage | Frame;
export type OnAssign = (worker: FakeWorker, message: Extract<CoordinatorMessage, { type: 'assign' }>) => void;

/** A worker without an adapter; the test decides what it sends. */
export class FakeWorker {
  readonly received: Received[] = [];
  readonly closed: Promise<LantrainError>;
  welcome: Welcome | undefined;

  private constructor(
    readonly connection: WorkerConnection,
    readonly name: string,
    onAssign: OnAssign,
    hash: typeof HASH,
  ) {
    this.closed = closing(connection);
    connection.onFrame = (frame) => void this.received.push(frame);
    const take = (message: CoordinatorMessage) => void this.received.push(message);
    connection.onControl = {
      welcome: (m) => {
        this.welcome = m;
        connection.frames = {
          incarnation: m.incarnation,
          buckets: m.buckets,
          microBatches: m.microBatches,
          kinds: ['weights-whole', 'weights-difference'],
        };
      },
      probe: ({ probe }) => connection.send({ type: 'probed', probe, hash: hash[probe] }),
      admit: take,
      commit: take,
      assign: (m) => {
        take(m);
        onAssign(this, m);
      },
      evaluate: (m) => {
        take(m);
        const low = m.microBatches.length * 2 ** 20;
        const high = 0;
        const microBatches = m.microBatches.map((data) => data.microBatch);
        this.say({ type: 'evaluated', assignment: m.assignment, microBatches, low, high, finite: true });
      },
      'hand-back': (m) => this.say({ type: 'handed-back', assignment: m.assignment, microBatches: [] }),
      revoke: take,
      stop: take,
    };
    this.say({ type: 'join', name, adapter: 'none' });
  }

  static async join({ url }: TestServer, name: string, onAssign: OnAssign = () => {}, hash = HASH) {
    return new FakeWorker(await join(url, {}, false), name, onAssign, hash);
  }

  say(message: WorkerMessage): void {
    this.connection.send(message);
  }

  get frames(): Frame[] {
    return this.received.filter((r): r is Frame => 'header' in r);
  }
}

/** What a micro-batch adds to the gradients' and the losses' sums. */
export interface Terms {
  readonly gradient: (microBatch: number, bucket: number, value: number) => number;
  /** In units of 2^-40. */
  readonly loss: bigint;
}

const ZEROS: Terms = { gradient: () => 0, loss: 0n };

/** The integers of a bucket's sums over `microBatches`: in the low wire in units of the bucket's grid now, else of 2^-40. */
export async function unitsOf(
  { engine: { owner } }: Cluster,
  bucket: number,
  microBatches: readonly number[],
  { gradient }: Terms,
): Promise<bigint[]> {
  const grid = (await owner.grids())?.[bucket];
  return Array.from({ length: owner.buckets[bucket].size }, (_, value) => {
    const unit = grid ? gridExponent(grid[Math.floor(value / GRID_BLOCK)]) : -40;
    let sum = 0n;
    for (const m of microBatches) sum += BigInt(Math.round(gradient(m, bucket, value) * 2 ** -unit));
    return sum;
  });
}

/** Integers in the exact wire's format. */
export function packExact(units: readonly bigint[]): Uint8Array {
  const low = Uint32Array.from(units, (unit) => Number(BigInt.asUintN(32, unit)));
  return packSums(
    low,
    Uint32Array.from(units, (unit) => Number(BigInt.asUintN(32, unit >> 32n))),
  );
}

/** What an honest worker whose micro-batches have these terms sends for a bucket. */
export async function payloadOf(
  test: Cluster,
  bucket: number,
  microBatches: readonly number[],
  terms: Terms = ZEROS,
): Promise<Uint8Array> {
  const { owner } = test.engine;
  if (bucket === owner.buckets.length) return packLoss(BigInt(microBatches.length) * terms.loss);
  const units = await unitsOf(test, bucket, microBatches, terms);
  const grids = await owner.grids();
  return grids ? packLowSums(units, grids[bucket]) : packExact(units);
}

type Assignment = Parameters<OnAssign>[1];

/** Contributes `payload` for a bucket of an assignment; `spoil` may change the sealed frame. */
export function sendPayload(
  { connection }: FakeWorker,
  { assignment, step, microBatches: dealt }: Assignment,
  bucket: number,
  payload: Uint8Array,
  spoil: (frame: Uint8Array) => void = () => {},
): void {
  const microBatches = microBatchSet(dealt.map((m) => m.microBatch));
  const frame = encodeFrame({ kind: 'contribution', incarnation: 1, assignment, step, bucket, microBatches }, payload);
  spoil(frame);
  connection.sendFrame(frame).catch(() => {});
}

/** Contributes buckets of an assignment, one after another. */
export async function sendHonestly(
  test: Cluster,
  worker: FakeWorker,
  message: Assignment,
  buckets: Iterable<number>,
  terms?: Terms,
): Promise<void> {
  const dealt = message.microBatches.map((m) => m.microBatch);
  for (const bucket of buckets) sendPayload(worker, message, bucket, await payloadOf(test, bucket, dealt, terms));
}

/** All buckets, with that of the loss. */
export const allBuckets = ({ engine: { owner } }: Cluster) => [...owner.buckets.keys(), owner.buckets.length];

/** Contributes zeros, or other terms, for everything that it is dealt. */
export const contribute =
  (test: Cluster, terms?: Terms): OnAssign =>
  (worker, message) =>
    void sendHonestly(test, worker, message, message.buckets ?? allBuckets(test), terms);

/**
 * Contributes ones for each micro-batch. In step 1 to every bucket at once, because a worker must prove itself before
 * it is dealt a whole step. Later to the first bucket at once, and to the others when `rest` is called.
 */
export function contributeInParts(test: Cluster) {
  const terms: Terms = { gradient: () => 2 ** -20, loss: 2n ** 40n };
  let sendRest: () => void = () => {};
  const onAssign: OnAssign = (worker, message) => {
    const [first, ...rest] = allBuckets(test);
    const sent = sendHonestly(test, worker, message, [first], terms);
    sendRest = () => void sent.then(() => sendHonestly(test, worker, message, rest, terms));
    if (message.step === 1) sendRest();
  };
  return { onAssign, rest: () => sendRest() };
}

export const refuse: OnAssign = (worker, { assignment, microBatches: [first] }) =>
  worker.say({ type: 'refused', assignment, microBatch: first.microBatch, what: 'wte\u001b[2J\n.weight' });
