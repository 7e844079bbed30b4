import { afterEach, beforeAll } from 'vitest';
import { ClusterEngine } from '../../cluster/coordinator/engine.js';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import { packLoss, packSums } from '../../cluster/exchange/blocks.js';
import { encodeFrame, type Frame } from '../../cluster/protocol/frame.js';
import type { CoordinatorMessage, Welcome, WorkerMessage } from '../../cluster/protocol/protocol.js';
import type { RoundNote } from '../../cluster/round/round.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import type { LantrainError } from '../../src/errors.js';
import { Gpu } from '../../src/gpu/device.js';
import type { ModelConfig } from '../../src/model/config.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { initializeWeights } from '../../src/train/engine.js';
import { closing, join, startServer, type TestServer } from './transport-helpers.js';

/*
 * A real coordinator on loopback, and workers without an adapter that say what a test wants.
 */

export const MODEL: ModelConfig = {
  vocabSize: 61,
  context: 8,
  width: 24,
  layers: 1,
  heads: 3,
  tie: false,
  qkvBias: true,
};
export const SHAPE = { batch: 1, context: 8, dropout: 0 };
export const MICRO_BATCHES = 4;
export const HASH = { reference: 'a'.repeat(64), run: 'b'.repeat(64) };
export const CLASS = 'c1a55c1a55c1-a55c1a55c1a5';
export const NONCE = new Uint8Array(32).fill(7);

export let gpu: Gpu;

export interface Cluster extends TestServer {
  readonly engine: ClusterEngine;
  /** Each note with the name that its worker had at that moment. */
  readonly notes: (RoundNote & { readonly name?: string })[];
}

const open: Cluster[] = [];

/** An adapter for the tests of a file; each test's clusters are closed after it. */
export function setUpClusters(): void {
  beforeAll(async () => {
    gpu = await Gpu.open(openDawn());
  });
  afterEach(async () => {
    for (const { engine, server } of open.splice(0)) {
      await engine.close('stopped');
      await server.close();
    }
  });
}

/** A real coordinator on loopback, with several small buckets. */
export async function cluster(more: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const notes: Cluster['notes'] = [];
  const options: ClusterOptions = {
    model: MODEL,
    shape: SHAPE,
    plan: { ...defaultPlan(gpu.adapter), windowValues: 2 ** 13, slabValues: 2 ** 13 },
    adamw: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, decay: 'all' },
    clip: 0,
    seed: 1,
    microBatches: MICRO_BATCHES,
    tokensPerStep: MICRO_BATCHES * SHAPE.context,
    version: 0,
    incarnation: 1,
    minWorkers: 1,
    exact: false,
    audit: 0,
    ownClass: { name: CLASS, nonce: NONCE, salted: HASH },
    ownerComputes: false,
    onNote: (note) => {
      const worker = 'worker' in note && note.worker !== undefined ? note.worker : 0;
      notes.push({ ...note, name: engine.members.get(worker)?.name });
    },
    ...more,
  };
  const engine: ClusterEngine = await ClusterEngine.create(gpu, loadShaders(), options);
  initializeWeights(engine, 'gpt2', 1);
  const test = { ...(await startServer({}, { onConnection: (c) => engine.admit(c) })), engine, notes };
  open.push(test);
  return test;
}

export const batches = (count = MICRO_BATCHES): MicroBatch[] =>
  Array.from({ length: count }, (_, i) => ({
    tokens: new Uint32Array(SHAPE.context).fill(i % 61),
    targets: new Uint32Array(SHAPE.context).fill(1),
    firstSlot: i,
  }));

type Received = CoordinatorMessage | Frame;
export type OnAssign = (worker: FakeWorker, message: Extract<CoordinatorMessage, { type: 'assign' }>) => void;

/** A worker without an adapter, which says what the test wants. */
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
 * Contributes ones for each micro-batch: in step 1 to every bucket at once, since a worker is not dealt a whole step before
 * it has proved itself; later to the first bucket at once, to the others when `rest` is called.
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
