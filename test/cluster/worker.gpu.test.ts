import { beforeAll, describe, expect, test } from 'vitest';
import { weightsChecksum } from '../../cluster/exchange/checksum.js';
import { decodeFrame, encodeFrame, type Frame } from '../../cluster/protocol/frame.js';
import type { MicroBatchData, WorkerMessage } from '../../cluster/protocol/protocol.js';
import { packTokens } from '../../cluster/protocol/tokens.js';
import { idsOf } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import type { WorkerEngine } from '../../cluster/worker/worker-engine.js';
import { Gpu } from '../../src/gpu/device.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { fakeConnection } from './fake-connection.js';

const MODEL = { vocabSize: 61, context: 8, width: 24, layers: 2, heads: 3, tie: false, qkvBias: true };
const MICRO_BATCHES = 3;

let gpu: Gpu;
let engineCache: EngineCache;

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  engineCache = new EngineCache(gpu, loadShaders());
});

type Sent = WorkerMessage | Frame['header'];

/** A worker with a connection that only records messages. */
class WorkerHarness {
  readonly sent: Sent[] = [];
  readonly payloads = new Map<number, Uint8Array>();
  readonly layout = new ParameterLayout(MODEL, this.#plan);
  readonly worker: Worker;
  readonly connection: WorkerConnection;
  onSent: (message: Sent) => void = () => {};
  #fail: (error: unknown) => void = () => {};

  /** `count`: micro-batches of a step. */
  constructor(readonly count = MICRO_BATCHES) {
    const note = (message: Sent) => {
      this.sent.push(message);
      this.onSent(message);
    };
    this.connection = fakeConnection({
      send: note,
      sendFrame: async (message) => {
        const context = { incarnation: 1, buckets: this.buckets + 1, microBatches: this.count };
        const { header, payload } = decodeFrame(message, { ...context, kinds: ['contribution'] });
        this.payloads.set(header.bucket, payload.slice());
        note(header);
      },
      close: (error) => this.#fail(error),
    });
    this.worker = new Worker(this.connection, { engines: engineCache, name: 'harness' });
  }

  get #plan() {
    return { ...defaultPlan(gpu.adapter), windowValues: 2 ** 12, slabValues: 2 ** 12 };
  }

  /** The worker's engine, its sums zero. */
  engine(): Promise<WorkerEngine> {
    const shape = { batch: 1, context: MODEL.context, dropout: 0 };
    return engineCache.get({ model: MODEL, shape, plan: this.#plan, microBatches: this.count });
  }

  get buckets(): number {
    return this.layout.buckets().length;
  }

  /** Welcomes the worker and sends it weights, all equal to `weight`. */
  async begin(weight: number): Promise<void> {
    const { onControl } = this.connection;
    onControl.welcome({
      type: 'welcome',
      worker: 1,
      incarnation: 1,
      step: 1,
      model: MODEL,
      plan: this.#plan,
      shape: { batch: 1, context: MODEL.context, dropout: 0 },
      seed: 1,
      microBatches: this.count,
      tokensPerStep: this.count * MODEL.context,
      buckets: this.buckets + 1,
    });
    const set = this.until((m) => 'type' in m && m.type === 'probed');
    onControl.probe({ type: 'probe', probe: 'run', nonce: new Uint8Array(32) });
    await set;
    onControl.admit({ type: 'admit', version: 0 });
    const ready = this.until((m) => 'type' in m && m.type === 'ready');
    this.layout.buckets().forEach(({ size }, bucket) => {
      const values = new Float32Array(size).fill(weight);
      const weights = weightsChecksum(new Uint32Array(values.buffer));
      const header = {
        kind: 'weights-whole',
        incarnation: 1,
        assignment: 0,
        step: 0,
        base: 0,
        bucket,
        exponent: 0,
      } as const;
      const message = encodeFrame({ ...header, weights }, new Uint8Array(values.buffer));
      const context = { incarnation: 1, buckets: this.buckets + 1, microBatches: this.count };
      void this.connection.onFrame(decodeFrame(message, { ...context, kinds: ['weights-whole'] }));
    });
    await ready;
  }

  until(isIt: (message: Sent) => boolean): Promise<Sent> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.onSent = (message) => {
        if (isIt(message)) resolve(message);
      };
    });
  }

  /** Assigns micro-batches 0 to `count` - 1 in slots `slotOf`, each of one repeated token. */
  assign(
    count: number,
    buckets?: number[],
    tokenOf: (microBatch: number) => number = () => 3,
    slotOf: (microBatch: number) => number = (microBatch) => microBatch,
  ): void {
    const microBatches: MicroBatchData[] = Array.from({ length: count }, (_, microBatch) => {
      const tokens = packTokens(new Uint32Array(MODEL.context).fill(tokenOf(microBatch)), MODEL.vocabSize);
      return { microBatch, slot: slotOf(microBatch), tokens, targets: tokens };
    });
    this.connection.onControl.assign({ type: 'assign', assignment: 1, step: 1, microBatches, buckets });
  }

  get contributions() {
    return this.sent.filter((m) => 'kind' in m && m.kind === 'contribution');
  }

  async end(): Promise<void> {
    this.connection.onControl.stop({ type: 'stop', reason: 'stopped', final: false });
    await this.worker.run();
  }
}

const isStats = (m: Sent) => 'type' in m && m.type === 'stats';
const isProgress = (m: Sent, done: number) => 'type' in m && m.type === 'progress' && m.done === done;

describe('a worker', () => {
  test('a worker sends buckets up before its last micro-batch is computed, the same bytes as afterwards', async () => {
    const harness = new WorkerHarness();
    await harness.begin(0.02);
    const stats = harness.until(isStats);
    harness.assign(2);
    await stats;
    const computed = harness.sent.findIndex((m) => isProgress(m, 2));
    const early = harness.sent.slice(0, computed).filter((m) => 'kind' in m).length;
    expect(early).toBeGreaterThan(1);
    expect(
      harness.sent
        .slice(
          0,
          harness.sent.findIndex((m) => isProgress(m, 1)),
        )
        .some((m) => 'kind' in m),
    ).toBe(false);
    const together = new Map(harness.payloads);
    expect([...together.keys()].sort((a, b) => a - b)).toEqual([...Array(harness.buckets + 1).keys()]);

    await harness.end();
    // If the last of three is asked back while the second is computed, the set is fixed too late for early uploads.
    const other = new WorkerHarness();
    await other.begin(0.02);
    const begun = other.until((m) => 'type' in m && m.type === 'progress' && m.begun === 2);
    other.assign(3);
    await begun;
    const last = other.until(isStats);
    other.connection.onControl['hand-back']({ type: 'hand-back', assignment: 1, microBatches: [2] });
    await last;
    expect(other.sent.find((m) => 'type' in m && m.type === 'handed-back')).toMatchObject({ microBatches: [2] });
    const done = other.sent.findIndex((m) => isProgress(m, 2));
    expect(other.sent.slice(0, done).some((m) => 'kind' in m)).toBe(false);
    expect(other.payloads).toEqual(together);
    for (const m of other.contributions)
      expect('kind' in m && m.kind === 'contribution' && idsOf(m.microBatches)).toEqual([0, 1]);
    await other.end();
  });

  test('a worker sends only the buckets it is asked for', async () => {
    const harness = new WorkerHarness();
    await harness.begin(0.02);
    const stats = harness.until(isStats);
    harness.assign(1, [1, harness.buckets]);
    await stats;
    expect([...harness.payloads.keys()].sort((a, b) => a - b)).toEqual([1, harness.buckets]);
    await harness.end();
  });

  test('a worker refuses a micro-batch whose loss is not finite, with nothing of it sent', async () => {
    const harness = new WorkerHarness();
    await harness.begin(Number.NaN);
    const refused = harness.until((m) => 'type' in m && m.type === 'refused');
    harness.assign(1);
    expect(await refused).toMatchObject({ assignment: 1, microBatch: 0 });
    expect(harness.contributions).toEqual([]);
    await harness.end();
  });
});

describe('a worker whose share is many micro-batches', () => {
  /** A step of 12 micro-batches, three in a stack. */
  const MANY = 12;

  test('a worker of many micro-batches computes three at once, to the bytes of one at a time, and the rest alone', async () => {
    const begun: number[][] = [];
    const payloads: Map<number, Uint8Array>[] = [];
    for (const slotOf of [(m: number) => m, (m: number) => 2 * m]) {
      const harness = new WorkerHarness(MANY);
      await harness.begin(0.02);
      expect((await harness.engine()).gpt.stack).toBe(3);
      const stats = harness.until(isStats);
      harness.assign(8, undefined, (microBatch) => 5 * microBatch, slotOf);
      await stats;
      const counts = harness.sent.flatMap((m) => ('type' in m && m.type === 'progress' ? [m.begun] : []));
      begun.push([...new Set(counts)]);
      payloads.push(new Map(harness.payloads));
      await harness.end();
    }
    expect(begun).toEqual([
      [3, 6, 7, 8],
      [1, 2, 3, 4, 5, 6, 7, 8],
    ]);
    expect(payloads[0].size).toBeGreaterThan(3);
    expect(payloads[0]).toEqual(payloads[1]);
  });

  test('a worker leaves out of a stack what was asked back', async () => {
    const harness = new WorkerHarness(MANY);
    await harness.begin(0.02);
    const first = harness.until((m) => 'type' in m && m.type === 'progress' && m.begun === 3);
    harness.assign(6);
    await first;
    const stats = harness.until(isStats);
    harness.connection.onControl['hand-back']({ type: 'hand-back', assignment: 1, microBatches: [4] });
    await stats;
    for (const m of harness.contributions)
      expect('kind' in m && m.kind === 'contribution' && idsOf(m.microBatches)).toEqual([0, 1, 2, 3, 5]);
    await harness.end();
  });

  test('a worker names the one of a stack that is not finite, with nothing sent that holds it', async () => {
    const harness = new WorkerHarness(MANY);
    await harness.begin(0.02);
    const { gpt, weights } = await harness.engine();
    const wte = await weights.read(gpu, 'wte.weight');
    weights.write(gpu, 'wte.weight', wte.fill(Number.NaN, 20 * MODEL.width, 21 * MODEL.width));
    expect(gpt.stack).toBe(3);
    const refused = harness.until((m) => 'type' in m && m.type === 'refused');
    harness.assign(6, undefined, (microBatch) => (microBatch === 4 ? 20 : 3));
    expect(await refused).toMatchObject({ assignment: 1, microBatch: 4 });
    await harness.end();
  });
});

describe('the engine of a worker', () => {
  test("a worker's engine is silent of buckets from the first wrong value on, and says what was wrong", async () => {
    const harness = new WorkerHarness();
    await harness.begin(0.02);
    await harness.end();
    const engine = await harness.engine();
    const tokens = new Uint32Array(MODEL.context).fill(3);
    const batch = { tokens, targets: tokens, firstSlot: 0 };
    const context = { seed: 1, step: 1, tokenWeight: 1 };
    const told: number[] = [];
    await engine.gradientByBucket([batch], context, (bucket) => told.push(bucket));
    expect(told.sort((a, b) => a - b)).toEqual([...harness.layout.buckets().keys()]);
    engine.sums.clear(gpu);
    told.length = 0;
    const report = await engine.gradientByBucket([batch], context, (bucket) => {
      told.push(bucket);
      // Like a kernel that finds an infinity among later gradients.
      gpu.write(engine.sums.status('wpe.weight'), Uint32Array.of(1));
    });
    expect(report.nonFinite).toEqual(['wpe.weight']);
    expect(told.length).toBeGreaterThan(0);
    expect(told.length).toBeLessThan(harness.buckets);
    engine.sums.clear(gpu);
  });
});
