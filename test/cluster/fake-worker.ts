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
import { openDawn } from '../../src/node/dawn.js';
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

/** Contributes zeros for everything that it is dealt. */
export const contribute =
  ({ engine }: Cluster): OnAssign =>
  ({ connection }, { assignment, step, microBatches: dealt, buckets }) => {
    const microBatches = microBatchSet(dealt.map((m) => m.microBatch));
    const lossBucket = engine.owner.buckets.length;
    for (const bucket of buckets ?? [...engine.owner.buckets.keys(), lossBucket]) {
      const zeros = () => new Uint32Array(engine.owner.buckets[bucket].size);
      const payload = bucket === lossBucket ? packLoss(0n) : packSums(zeros(), zeros());
      const header = { kind: 'contribution', incarnation: 1, assignment, step, bucket, microBatches } as const;
      connection.sendFrame(encodeFrame(header, payload)).catch(() => {});
    }
  };

/**
 * Contributes ones for each micro-batch. In step 1 to every bucket at once, because a worker must prove itself before
 * it is dealt a whole step. Later to the first bucket at once, and to the others when `rest` is called.
 */
export function contributeInParts({ engine }: Cluster) {
  let sendRest: () => void = () => {};
  const onAssign: OnAssign = ({ connection }, { assignment, step, microBatches: dealt }) => {
    const microBatches = microBatchSet(dealt.map((m) => m.microBatch));
    const lossBucket = engine.owner.buckets.length;
    const send = (bucket: number) => {
      const size = bucket === lossBucket ? 0 : engine.owner.buckets[bucket].size;
      const ones = new Uint32Array(size).fill(dealt.length * 2 ** 20);
      const payload =
        bucket === lossBucket ? packLoss(BigInt(dealt.length) * 2n ** 40n) : packSums(ones, new Uint32Array(size));
      const header = { kind: 'contribution', incarnation: 1, assignment, step, bucket, microBatches } as const;
      connection.sendFrame(encodeFrame(header, payload)).catch(() => {});
    };
    send(0);
    sendRest = () => {
      for (let bucket = 1; bucket <= lossBucket; bucket++) send(bucket);
    };
    if (step === 1) sendRest();
  };
  return { onAssign, rest: () => sendRest() };
}

export const refuse: OnAssign = (worker, { assignment, microBatches: [first] }) =>
  worker.say({ type: 'refused', assignment, microBatch: first.microBatch, what: 'wte\u001b[2J\n.weight' });
