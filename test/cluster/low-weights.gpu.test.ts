import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { weightsChecksum } from '../../cluster/exchange/checksum.js';
import { lowCodesAt, lowHeadWords, mostLowWords } from '../../cluster/exchange/low-blocks.js';
import { encodeFrame, type WeightsHeader } from '../../cluster/protocol/frame.js';
import { onlyFromWorker, type WorkerMessage } from '../../cluster/protocol/protocol.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import type { WorkerEngine } from '../../cluster/worker/worker-engine.js';
import { Gpu } from '../../src/gpu/device.js';
import type { GridArena } from '../../src/model/grid.js';
import { type ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { moved } from '../../src/reference/low-wire.js';
import type { FlatRange } from '../../src/train/optimizer.js';
import { packUpdates } from '../reference/low-blocks.js';
import { gridBytes } from '../train/low-values.js';
import { MICRO_BATCHES, MODEL as SMALL_MODEL, SHAPE as SMALL_SHAPE, smallPlan } from './small-cluster.js';
import { join, startServer, type TestServer, until } from './transport-helpers.js';

/* A real worker, and a coordinator that sends weights of the low wire that are wrong in one place. */

const MODEL = { ...SMALL_MODEL, tie: true };
const SHAPE = { ...SMALL_SHAPE, wire: 'low' } as const;
const F = -13;

let gpu: Gpu;
let engines: EngineCache;
/** The engine of the worker that joined last. */
let engine: WorkerEngine;
let buckets: readonly FlatRange[];

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  engines = new EngineCache(gpu, loadShaders());
  const get = engines.get.bind(engines);
  engines.get = async (...wanted) => {
    engine = await get(...wanted);
    return engine;
  };
  buckets = new ParameterLayout(MODEL, smallPlan(gpu)).buckets();
});

/** What a bucket is at a version, and the way to it. */
interface Bucket {
  readonly weights: Float32Array;
  readonly grid: Uint8Array;
  readonly moves: number[];
}

const EXPONENTS = [
  [-40, 8, -12],
  [-3, -40, 0, 5, -20],
];

/** The bucket at version 0, and at version 1. */
function bucketOf(bucket: number, version: number): Bucket {
  const { size } = buckets[bucket];
  const moves = Array.from({ length: size }, (_, v) => ((5 * v + bucket) % 7) - 3);
  const first = Float32Array.from({ length: size }, (_, v) => ((v % 97) - 48) / 1000);
  const weights = version === 0 ? first : first.map((s, v) => moved(s, moves[v], 2 ** F));
  return { weights, grid: gridBytes(size, EXPONENTS[version], version === 0), moves };
}

const bits = (weights: Float32Array) => new Uint32Array(weights.buffer);

interface Weights {
  readonly header: WeightsHeader;
  readonly payload: Uint8Array;
}

type Spoil = (weights: Weights) => Weights;

/** An honest frame of a bucket. */
function weightsOf(bucket: number, version: number, kind: WeightsHeader['kind']): Weights {
  const { weights, grid, moves } = bucketOf(bucket, version);
  const isWhole = kind === 'weights-whole';
  const payload = isWhole
    ? Buffer.concat([new Uint8Array(weights.buffer), grid])
    : packUpdates(moves, grid, bits(weights));
  const [base, exponent] = isWhole ? [0, 0] : [version - 1, F];
  const address = { incarnation: 1, assignment: 0, step: version, base, bucket };
  return { header: { kind, ...address, weights: weightsChecksum(bits(weights)), exponent }, payload };
}

/** The coordinator's end of a real connection to a real worker. */
class Coordinator {
  readonly said: WorkerMessage[] = [];

  private constructor(
    readonly server: TestServer,
    readonly worker: Worker,
    readonly connection: CoordinatorConnection,
  ) {}

  static async start(): Promise<Coordinator> {
    const server = await startServer();
    const worker = new Worker(await join(server.url, {}, false), { engines, name: 'honest' });
    await until(() => server.accepted.length === 1, 'it is connected');
    const self = new Coordinator(server, worker, server.accepted[0]);
    const note = (message: WorkerMessage) => void self.said.push(message);
    self.connection.onControl = onlyFromWorker({
      join: note,
      ready: note,
      mismatch: note,
      probed: note,
      leave: () => {},
    });
    await until(() => self.has('join'), 'it joins');
    self.connection.send({
      ...{ type: 'welcome', worker: 1, incarnation: 1, step: 1, model: MODEL, plan: smallPlan(gpu), shape: SHAPE },
      ...{ seed: 1, microBatches: MICRO_BATCHES, tokensPerStep: MICRO_BATCHES * MODEL.context },
      buckets: buckets.length + 1,
    });
    // Frames are accepted once the engine is built.
    self.connection.send({ type: 'probe', probe: 'run', nonce: new Uint8Array(32) });
    await until(() => self.has('probed'), 'its engine is there', 120_000);
    self.connection.send({ type: 'admit', version: 0 });
    return self;
  }

  has(type: WorkerMessage['type']): boolean {
    return this.said.some((m) => m.type === type);
  }

  /** Resolves when the worker has answered or ended the connection; returns what came last. */
  async answer(): Promise<WorkerMessage | string> {
    const { said, server } = this;
    const before = said.length;
    await until(() => said.length > before || server.ended.length > 0, 'an answer');
    return said[before] ?? server.ended[0].code;
  }

  send({ header, payload }: Weights): void {
    this.connection.sendFrame(encodeFrame(header, payload)).catch(() => {});
  }

  /** Sends all buckets of a version, or with `alone` only the bad one. Returns the answer. */
  sendAll(version: number, kind: WeightsHeader['kind'], spoil: Spoil, alone: boolean): Promise<WorkerMessage | string> {
    const answer = this.answer();
    for (const bucket of alone ? [BAD] : buckets.keys()) {
      const weights = weightsOf(bucket, version, kind);
      this.send(bucket === BAD ? spoil(weights) : weights);
    }
    return answer;
  }

  async end(): Promise<void> {
    this.worker.leave('the test is over');
    await this.worker.run();
    await this.server.server.close();
  }
}

const open: Coordinator[] = [];
afterEach(async () => {
  for (const coordinator of open.splice(0)) await coordinator.end();
});

const BAD = 0;

/**
 * A worker that is sent all buckets of version 0 whole, bucket `BAD` spoiled, and its answer. With `alone` that bucket comes
 * alone: an answer then is about its form, since weights are verified once all are there.
 */
async function begun(spoil: Spoil = (weights) => weights, alone = false) {
  const coordinator = await Coordinator.start();
  open.push(coordinator);
  return { coordinator, answer: await coordinator.sendAll(0, 'weights-whole', spoil, alone) };
}

/** The same of updates from version 0 to version 1. */
async function updated(spoil: Spoil = (weights) => weights, alone = false) {
  const { coordinator, answer } = await begun();
  expect(answer).toEqual({ type: 'ready' });
  coordinator.connection.send({ type: 'commit', step: 1 });
  return { coordinator, answer: await coordinator.sendAll(1, 'weights-difference', spoil, alone) };
}

type Start = typeof begun;

/** The worker asks for the bad bucket, with or without the others, and is right once it has it. */
async function expectAsks(start: Start, spoil: Spoil, alone: boolean): Promise<void> {
  const { coordinator, answer } = await start(spoil, alone);
  const version = start === begun ? 0 : 1;
  expect(answer).toEqual({ type: 'mismatch', buckets: [BAD] });
  expect(coordinator.server.ended).toEqual([]);
  const again = coordinator.answer();
  for (const bucket of buckets.keys())
    if (bucket === BAD || alone) coordinator.send(weightsOf(bucket, version, 'weights-whole'));
  expect(await again).toEqual({ type: 'ready' });
  await expectVersion(version);
}

/** The worker's weights and grid are those of a version, as a gradient would use them. */
async function expectVersion(version: number): Promise<void> {
  const { weights, sums } = engine;
  const read = async (arena: ParameterArena | GridArena, { slab, offset, size }: FlatRange) =>
    gpu.read(arena.range(slab, offset, size));
  for (const [bucket, range] of buckets.entries()) {
    const expected = bucketOf(bucket, version);
    expect(new Uint32Array(await read(weights, range))).toEqual(bits(expected.weights));
    if (sums.grid === undefined) throw new Error('no grid');
    expect(new Uint8Array(await read(sums.grid, range))).toEqual(expected.grid);
  }
}

const headed =
  (more: Partial<WeightsHeader>): Spoil =>
  ({ header, payload }) => ({ header: { ...header, ...more }, payload });

/** A frame with other words in its payload. */
const words =
  (change: (words: number[], values: number) => void): Spoil =>
  ({ header, payload }) => {
    const all = [...new Uint32Array(payload.slice().buffer)];
    change(all, buckets[header.bucket].size);
    return { header, payload: new Uint8Array(Uint32Array.from(all).buffer) };
  };

/** A frame with one other byte in its payload. */
const byte =
  (at: (values: number) => number, value: number): Spoil =>
  ({ header, payload }) => {
    const spoiled = payload.slice();
    spoiled[at(buckets[header.bucket].size)] = value;
    return { header, payload: spoiled };
  };

/** A frame with one word more or fewer. `says`: its own count is right. */
const resized = (by: 1 | -1, says: boolean): Spoil =>
  words((all) => {
    if (by > 0) all.push(0);
    else all.pop();
    if (says) all[0] += by;
  });

const setWord = (at: (values: number) => number, change: (word: number) => number): Spoil =>
  words((all, values) => {
    all[at(values)] = change(all[at(values)]);
  });

/** An update with one other move. */
const otherMove: Spoil = ({ header }) => {
  const { moves, grid, weights } = bucketOf(header.bucket, 1);
  return { header, payload: packUpdates(moves.with(64, (moves[64] % 3) + 1), grid, bits(weights)) };
};

/** An update whose first block has another code, and is as long as that asks for. */
const coded =
  (code: number): Spoil =>
  ({ header }) => {
    const { moves, grid, weights } = bucketOf(header.bucket, 1);
    return { header, payload: packUpdates(moves, grid, bits(weights), [code]) };
  };

const wrongSum = { weights: { a: 1, b: 2 } };
const codesAt = (values: number) => lowCodesAt(values, 'updates');
const updateGridAt = 16;
const wholeGridAt = (values: number) => 4 * values;
const unusedGrid = (values: number) => values / 64;

describe('a worker of the low wire', () => {
  test('follows updates and whole weights, with their grids', async () => {
    expect((await begun()).answer).toEqual({ type: 'ready' });
    await expectVersion(0);
    await open[0].end();
    open.length = 0;
    expect((await updated()).answer).toEqual({ type: 'ready' });
    await expectVersion(1);
  });

  test('takes moves of 4 bits', async () => {
    expect((await updated(coded(3))).answer).toEqual({ type: 'ready' });
    await expectVersion(1);
  });

  const malformed: [string, Start, Spoil][] = [
    [
      'an update with one word more announced',
      updated,
      setWord(
        () => 0,
        (w) => w + 1,
      ),
    ],
    [
      'an update with another number of values',
      updated,
      setWord(
        () => 1,
        (w) => w + 64,
      ),
    ],
    ['an update with a block of code 4', updated, coded(4)],
    ['an update with a block of code 12', updated, coded(12)],
    ['an update with a code that is too narrow', updated, setWord(codesAt, (w) => w - 1)],
    [
      'an update with a code of no block',
      updated,
      setWord(
        (n) => lowHeadWords(n, 'updates') - 1,
        (w) => w | (1 << 28),
      ),
    ],
    ['an update with a grid byte of E = 9', updated, byte(() => updateGridAt, 73)],
    ['an update with a grid byte of E = -41', updated, byte(() => updateGridAt + 5, 23 | 128)],
    ['an update with a grid byte of no block', updated, byte((n) => updateGridAt + unusedGrid(n), 24)],
    ['an update with one word too few', updated, resized(-1, false)],
    ['an update with one word too few, as it says', updated, resized(-1, true)],
    ['an update with one word too many', updated, resized(1, false)],
    ['an update with one word too many, as it says', updated, resized(1, true)],
    ['an update with a head only', updated, words((all) => void all.splice(4))],
    ['an update of nothing', updated, words((all) => void all.splice(0))],
    ['whole weights with one word too few', begun, resized(-1, false)],
    ['whole weights without a grid', begun, words((all, n) => void all.splice(n))],
    ['whole weights of nothing', begun, words((all) => void all.splice(0))],
    ['whole weights with a grid byte of E = 9', begun, byte(wholeGridAt, 73 | 128)],
    ['whole weights with a grid byte of E = -41', begun, byte((n) => wholeGridAt(n) + unusedGrid(n) - 1, 23)],
    ['whole weights with a grid byte of no block', begun, byte((n) => wholeGridAt(n) + unusedGrid(n), 24)],
  ];
  test.each(malformed)('asks for a bucket again at once that came as %s', (_, start, spoil) =>
    expectAsks(start, spoil, true),
  );

  const wrong: [string, Start, Spoil][] = [
    ['an update with one other move', updated, otherMove],
    ['an update in units of another F', updated, headed({ exponent: F + 1 })],
    ['an update with another checksum of the new weights', updated, headed(wrongSum)],
    ['whole weights with another checksum', begun, headed(wrongSum)],
    ['whole weights with one other weight', begun, byte(() => 4, 1)],
  ];
  test.each(wrong)('asks for a bucket again, once all have come, that came as %s', (_, start, spoil) =>
    expectAsks(start, spoil, false),
  );

  const longest = (values: number) => mostLowWords(values, 'updates');
  const ended: [string, typeof begun, Spoil][] = [
    ['updates in units of 2^-61', updated, headed({ exponent: -61 })],
    ['updates in units of 2^41', updated, headed({ exponent: 41 })],
    [
      'updates longer than a bucket can have',
      updated,
      words((all, n) => all.push(...new Array(longest(n) + 1 - all.length).fill(0))),
    ],
    ['whole weights with an exponent', begun, headed({ exponent: F })],
    ['whole weights with a word too many', begun, resized(1, false)],
  ];
  test.each(ended)('ends the connection of a coordinator that sends %s', async (_, start, spoil) => {
    const { coordinator, answer } = await start(spoil);
    expect(answer).toBe('LT_CLUSTER_MALFORMED');
    expect(await coordinator.worker.run()).toMatchObject({ code: 'LT_CLUSTER_MALFORMED' });
  });
});
