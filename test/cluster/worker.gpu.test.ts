import { beforeAll, describe, expect, test } from 'vitest';
import { weightsChecksum } from '../../cluster/exchange/checksum.js';
import { decodeFrame, encodeFrame, type Frame } from '../../cluster/protocol/frame.js';
import type { MicroBatchData, WorkerMessage } from '../../cluster/protocol/protocol.js';
import { packWindows } from '../../cluster/protocol/tokens.js';
import { idsOf } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import type { WorkerEngine } from '../../cluster/worker/worker-engine.js';
import { generatedValues } from '../../src/check/generated.js';
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

  /** Gives every weight a value of its own, so that gradients of all tensors differ. */
  async scatter(): Promise<void> {
    const { weights } = await this.engine();
    for (const [i, parameter] of this.layout.parameters.entries())
      weights.write(gpu, parameter.name, generatedValues(parameter, [i, 1], 0.5));
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
    const microBatches = dataOf(count, tokenOf, slotOf);
    this.connection.onControl.assign({ type: 'assign', assignment: 1, step: 1, microBatches, buckets });
  }

  /** Asks for losses. Resolves with the worker's answer. */
  async evaluate(assignment: number, microBatches: MicroBatchData[]): Promise<Sent> {
    const answer = this.until((m) => 'type' in m && m.type === 'evaluated');
    this.connection.onControl.evaluate({ type: 'evaluate', assignment, version: 0, microBatches });
    return answer;
  }

  get contributions() {
    return this.sent.filter((m) => 'kind' in m && m.kind === 'contribution');
  }

  async end(): Promise<void> {
    this.connection.onControl.stop({ type: 'stop', reason: 'stopped', final: false });
    await this.worker.run();
  }
}

/** Micro-batches 0 to `count` - 1 in slots `slotOf`, each of one repeated token. */
function dataOf(
  count: number,
  tokenOf: (microBatch: number) => number,
  slotOf = (microBatch: number) => microBatch,
): MicroBatchData[] {
  return Array.from({ length: count }, (_, microBatch) => {
    const tokens = new Uint32Array(MODEL.context).fill(tokenOf(microBatch));
    const ids = packWindows({ tokens, targets: tokens, firstSlot: 0 }, MODEL);
    return { microBatch, slot: slotOf(microBatch), ids };
  });
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

  test('nothing of an assignment is in the next one, or in what an evaluation says', async () => {
    const harness = new WorkerHarness();
    await harness.begin(0.02);
    await harness.scatter();
    const contribute = async (tokenOf: (microBatch: number) => number, count = 1) => {
      const stats = harness.until(isStats);
      harness.assign(count, undefined, tokenOf);
      await stats;
      // The assignment ends just after it.
      await new Promise(setImmediate);
      return new Map(harness.payloads);
    };
    const evaluate = (assignment: number) =>
      harness.evaluate(
        assignment,
        dataOf(2, (m) => 9 + m),
      );
    const engine = await harness.engine();
    const first = await contribute(() => 3);
    const { lossFixed } = await engine.sums.readReport();
    const evaluated = await evaluate(2);
    // Other rows of the embedding, and several micro-batches.
    expect(await contribute((m) => 40 + m, 3)).not.toEqual(first);
    expect(await contribute(() => 3)).toEqual(first);
    expect((await engine.sums.readReport()).lossFixed).toBe(lossFixed);
    expect(await evaluate(2)).toEqual(evaluated);
    await harness.end();
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

  test('an evaluation is computed by whole stacks, two of which are queued, to the sum of one at a time', async () => {
    const harness = new WorkerHarness(MANY);
    await harness.begin(0.02);
    await harness.scatter();
    const tokenOf = (microBatch: number) => 5 * microBatch;
    let sum = 0n;
    for (const one of dataOf(11, tokenOf)) {
      const alone = await harness.evaluate(2, [one]);
      if (!('high' in alone)) throw new Error('an evaluation has losses');
      sum += (BigInt(alone.high) << 32n) + BigInt(alone.low);
    }
    harness.sent.length = 0;
    // Every second slot: an evaluation's micro-batches need not follow one another.
    const all = await harness.evaluate(
      3,
      dataOf(11, tokenOf, (m) => 2 * m),
    );
    const progress = harness.sent.flatMap((m) => ('type' in m && m.type === 'progress' ? [m] : []));
    expect(progress.map(({ begun }) => begun)).toEqual([3, 6, 9, 10, 11]);
    expect(progress.slice(0, 2).map(({ done }) => done)).toEqual([0, 0]);
    for (const { begun, done } of progress.slice(2)) expect(done).toBeGreaterThanOrEqual(begun - 6);
    const microBatches = Array.from({ length: 11 }, (_, m) => m);
    const words = { low: Number(BigInt.asUintN(32, sum)), high: Number(sum >> 32n) };
    expect(all).toMatchObject({ assignment: 3, microBatches, ...words, finite: true });
    expect(words.low).toBeGreaterThan(0);
    await harness.end();
  });

  test('an evaluation that is revoked says nothing, and nothing of it is in the next', async () => {
    const harness = new WorkerHarness(MANY);
    await harness.begin(0.02);
    await harness.scatter();
    const wanted = await harness.evaluate(
      2,
      dataOf(1, () => 7),
    );
    harness.sent.length = 0;
    harness.onSent = (m) => {
      if (!('type' in m && m.type === 'progress' && m.begun === 6)) return;
      harness.connection.onControl.revoke({ type: 'revoke', assignment: 3 });
    };
    const microBatches = dataOf(12, (m) => m);
    harness.connection.onControl.evaluate({ type: 'evaluate', assignment: 3, version: 0, microBatches });
    const { onSent } = harness;
    const next = harness.evaluate(
      2,
      dataOf(1, () => 7),
    );
    const { onSent: answered } = harness;
    harness.onSent = (m) => {
      onSent(m);
      answered(m);
    };
    expect(await next).toEqual(wanted);
    expect(harness.sent.flatMap((m) => ('begun' in m ? [[m.assignment, m.begun]] : []))).toEqual([
      [3, 3],
      [3, 6],
      [2, 1],
    ]);
    await harness.end();
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
