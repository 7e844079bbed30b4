import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Frame, MAX_FRAME_BYTES } from '../../cluster/protocol/frame.js';
import {
  type Assign,
  type CoordinatorMessage,
  type MicroBatchData,
  onlyFromWorker,
  type Welcome,
} from '../../cluster/protocol/protocol.js';
import { packWindows } from '../../cluster/protocol/tokens.js';
import { idsOf } from '../../cluster/round/sets.js';
import type { CoordinatorConnection, WorkerConnection } from '../../cluster/transport/connection.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { HeldFrames } from '../../cluster/worker/held-frames.js';
import { HeldWork } from '../../cluster/worker/held-work.js';
import { Worker } from '../../cluster/worker/worker.js';
import { WorkerSession } from '../../cluster/worker/worker-session.js';
import { LantrainError } from '../../src/errors.js';
import { Gpu } from '../../src/gpu/device.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { version } from '../../src/node/version.js';
import { slowTest } from '../slow.js';
import { fakeConnection } from './fake-connection.js';
import { Lantrain } from './processes.js';
import { startServer, until } from './transport-helpers.js';

const MODEL = { vocabSize: 61, context: 8, width: 24, layers: 1, heads: 3, tie: true, qkvBias: true };
const MICRO_BATCHES = 4;
const MALFORMED = expect.objectContaining({ code: 'LT_CLUSTER_MALFORMED' });

let gpu: Gpu;
let engineCache: EngineCache;

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  engineCache = new EngineCache(gpu, loadShaders());
});
afterEach(() => vi.useRealTimers());

function welcome(more: Partial<Welcome> = {}): Welcome {
  const plan = defaultPlan(gpu.adapter);
  return {
    type: 'welcome',
    worker: 1,
    incarnation: 1,
    step: 1,
    model: MODEL,
    plan,
    shape: { batch: 1, context: MODEL.context, dropout: 0 },
    seed: 1,
    microBatches: MICRO_BATCHES,
    tokensPerStep: MICRO_BATCHES * MODEL.context,
    buckets: new ParameterLayout(MODEL, plan).buckets().length + 1,
    ...more,
  };
}

/** The coordinator's end of a worker in this process. It can send anything that a connection accepts. */
class Coordinator {
  /** The error that ended the connection. */
  ended: LantrainError | undefined;
  readonly connection: WorkerConnection;
  #worker: Worker | undefined;

  constructor(onJoin: (coordinator: Coordinator) => void = () => {}) {
    this.connection = fakeConnection({
      send: (message) => {
        if (message.type === 'join') queueMicrotask(() => onJoin(this));
      },
      close: (error) => {
        this.ended ??= error;
      },
    });
  }

  /** The worker at the other end, unless the test made one. */
  get worker(): Worker {
    this.#worker ??= new Worker(this.connection, { engines: engineCache, name: 'honest' });
    return this.#worker;
  }

  /** Like a real connection: an error of a handler ends it. */
  #guarded(handle: () => void): void {
    if (this.ended !== undefined) return;
    try {
      handle();
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      this.ended = error;
      this.connection.onClose(error);
    }
  }

  say(message: CoordinatorMessage): void {
    this.#guarded(() => {
      const handlers = this.connection.onControl as Record<string, (message: CoordinatorMessage) => void>;
      handlers[message.type](message);
    });
  }

  send(frame: Frame): void {
    if (this.connection.frames === undefined) throw new Error('no frame is due');
    this.#guarded(() => void this.connection.onFrame(frame));
  }

  /** Resolves once the worker accepts weights. */
  async begin(): Promise<void> {
    this.say(welcome());
    // The kernels may be compiled again, which takes longest here on a software adapter.
    await until(() => this.connection.frames !== undefined, 'the engine is there', 120_000);
  }

  async end(): Promise<LantrainError> {
    this.say({ type: 'stop', reason: 'stopped', final: false });
    return this.worker.run();
  }
}

/** A coordinator with a worker at its other end. */
function coordinatorOf(): Coordinator {
  const coordinator = new Coordinator();
  expect(coordinator.worker).toBeInstanceOf(Worker);
  return coordinator;
}

async function begun(): Promise<Coordinator> {
  const coordinator = coordinatorOf();
  await coordinator.begin();
  coordinator.say({ type: 'admit', version: 0 });
  return coordinator;
}

function microBatches(count: number, tokens = MODEL.context): MicroBatchData[] {
  return Array.from({ length: count }, (_, microBatch) => {
    const repeated = new Uint32Array(tokens).fill(3);
    const windows = { vocabSize: MODEL.vocabSize, context: tokens };
    const ids = packWindows({ tokens: repeated, targets: repeated, firstSlot: 0 }, windows);
    return { microBatch, slot: microBatch, ids };
  });
}

function assign(assignment: number, more: Partial<Assign> = {}): Assign {
  return { type: 'assign', assignment, step: 1, microBatches: microBatches(MICRO_BATCHES), ...more };
}

function frame(step: number, bucket = 0, kind: 'whole' | 'difference' = 'difference', bytes = 64): Frame {
  const base = kind === 'whole' ? 0 : step - 1;
  const address = { incarnation: 1, assignment: 0, step, base, bucket };
  return {
    header: { kind: `weights-${kind}`, ...address, weights: { a: 0, b: 0 }, exponent: 0 },
    payload: new Uint8Array(bytes),
    payloadChecksum: { a: 0, b: 0 },
    bytes: bytes + 168,
  };
}

describe('a coordinator that does harm', () => {
  const late: [string, (coordinator: Coordinator) => void][] = [
    ['welcomes it twice', (c) => c.say(welcome())],
    [
      'deals an assignment twice',
      (c) => {
        c.say(assign(1));
        c.say(assign(1));
      },
    ],
    ['deals work of a step that is not yet', (c) => c.say(assign(1, { step: 3 }))],
    [
      'evaluates weights that are not yet',
      (c) => c.say({ type: 'evaluate', assignment: 1, version: 1, microBatches: microBatches(1) }),
    ],
    ['sends weights two steps ahead', (c) => c.send(frame(2))],
    ['sends weights of no bucket', (c) => c.send(frame(1, 1))],
    ['sends more weights than a bucket has', (c) => c.send(frame(0, 0, 'whole', 2 ** 20))],
    ['sends more differences than a bucket has', (c) => c.send(frame(1, 0, 'difference', 2 ** 20))],
    [
      'asks for probes without end',
      (c) => Array.from({ length: 5 }, () => c.say({ type: 'probe', probe: 'run' } as never)),
    ],
  ];
  test.each(late)('a worker ends the connection of a coordinator that %s', async (_what, harm) => {
    const coordinator = await begun();
    expect(coordinator.ended).toBeUndefined();
    harm(coordinator);
    expect(coordinator.ended).toEqual(MALFORMED);
    expect(await coordinator.worker.run()).toEqual(MALFORMED);
  });

  const early: [string, CoordinatorMessage][] = [
    ['deals work before a welcome', { type: 'assign', assignment: 1, step: 1, microBatches: [] }],
    ['commits before a welcome', { type: 'commit', step: 1 }],
    ['sends weights before a welcome', { type: 'admit', version: 1 }],
  ];
  test.each(early)('a worker ends the connection of a coordinator that %s', async (_what, message) => {
    const coordinator = coordinatorOf();
    coordinator.say(message);
    expect(coordinator.ended).toEqual(MALFORMED);
    await coordinator.worker.run();
  });

  test('a worker ends the connection of a coordinator that welcomes it to buckets that the model does not have', async () => {
    const coordinator = coordinatorOf();
    coordinator.say(welcome({ buckets: 7 }));
    expect(await coordinator.worker.run()).toEqual(MALFORMED);
    expect(coordinator.ended?.message).toContain('7 buckets');
  });

  test.each([
    ['large assignments', 900, 2 ** 12],
    ['small assignments', 1, 1],
  ])('a worker in bounded memory drops a coordinator that deals %s without end', async (_what, count, tokens) => {
    const coordinator = await begun();
    const data = microBatches(count, tokens);
    const bytes = data.reduce((sum, one) => sum + one.ids.length, 0);
    let dealt = 0;
    while (coordinator.ended === undefined && dealt < 1e6) coordinator.say(assign(++dealt, { microBatches: data }));
    expect(coordinator.ended).toEqual(MALFORMED);
    expect((dealt - 1) * bytes).toBeLessThan(4 * MAX_FRAME_BYTES);
    // Objects around the ids count as well.
    expect((dealt - 1) * 1024).toBeLessThan(4 * MAX_FRAME_BYTES);
    await coordinator.worker.run();
  });

  test('a worker in bounded memory drops a coordinator that names more buckets than it can hold', async () => {
    const coordinator = await begun();
    const buckets = Array.from({ length: 2 ** 18 }, (_, i) => i);
    let dealt = 0;
    while (coordinator.ended === undefined && dealt < 1000) coordinator.say(assign(++dealt, { buckets }));
    expect(coordinator.ended).toEqual(MALFORMED);
    expect(dealt).toBeLessThan(20);
    await coordinator.worker.run();
  });
});

describe('a coordinator that does what it may', () => {
  test('a worker stays with a coordinator that deals as much at once as simulated rounds did', async () => {
    const coordinator = await begun();
    for (let i = 1; i <= 7; i++) coordinator.say(assign(i));
    expect(coordinator.ended).toBeUndefined();
    expect((await coordinator.end()).code).toBe('LT_CLUSTER_CLOSED');
  });

  test('a worker stays with a coordinator that deals and fences for ever, or commits, in bounded memory', async () => {
    const coordinator = await begun();
    coordinator.say(assign(1));
    const data = microBatches(16, 512);
    const before = heapBytes();
    for (let i = 2; i < 40_000; i++) {
      coordinator.say(assign(i, { microBatches: data }));
      coordinator.say({ type: 'revoke', assignment: i });
      coordinator.say({ type: 'admit', version: 0 });
    }
    expect(coordinator.ended).toBeUndefined();
    // The total dealt is ten times the bound.
    expect(heapBytes() - before).toBeLessThan(128 * 2 ** 20);
    await coordinator.end();
  });

  test('work that is handed back before it has begun counts no more in what a worker holds', () => {
    const held = new HeldWork();
    const dealt = { kind: 'step', step: 1, microBatches: microBatches(2, 2 ** 22) } as const;
    for (let assignment = 1; assignment < 100; assignment++) {
      const work = held.begin({ ...dealt, assignment });
      expect(work.take().map(({ microBatch }) => microBatch)).toEqual([0]);
      expect(held.handBack(assignment, [0, 1, 5])).toEqual([1]);
      expect(held.handBack(assignment, [0, 1, 5])).toEqual([]);
      expect(work.take()).toEqual([]);
      expect(idsOf(work.microBatches)).toEqual([0]);
      held.finish(work);
    }
    // Three halves that stay reach the bound.
    for (let assignment = 1; assignment <= 3; assignment++) {
      held.begin({ ...dealt, assignment }).take();
      held.handBack(assignment, [1]);
    }
    expect(() => held.begin({ ...dealt, assignment: 4 })).toThrow(MALFORMED);
  });
});

/** Heap in use after a forced garbage collection. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

describe('weights that a worker holds', () => {
  test('held weights of the next version are the newest frame of each kind a bucket, applied after what is due', async () => {
    const frames = new HeldFrames([64, 64]);
    frames.announce(4);
    for (let i = 0; i < 1000; i++)
      for (const bucket of [0, 1])
        expect(frames.add(frame(5, bucket, 'difference', 64 + 4 * (i % 10)))).toBeUndefined();
    expect(frames.add(frame(5, 0, 'whole', 256))).toBeUndefined();
    const due = frames.add(frame(4, 1, 'whole', 256));
    expect([...frames.takeDue()].map(({ header }) => header.step)).toEqual([4]);
    await due;
    expect([...frames.takeDue()]).toEqual([]);
    frames.announce(5);
    const taken = [...frames.takeDue()].map(({ header, payload }) => [header.kind, header.bucket, payload.length]);
    expect(taken).toEqual([
      ['weights-difference', 0, 100],
      ['weights-difference', 1, 100],
      ['weights-whole', 0, 256],
    ]);
  });

  test('weights that are due hold up the connection until applied, and are given up where it cannot be held up', async () => {
    const frames = new HeldFrames([2 ** 20]);
    frames.announce(1);
    let settled = 0;
    const waiting: Promise<void>[] = [];
    const shared = frame(1, 0, 'whole', 4 * 2 ** 20);
    const flood = () => {
      for (let i = 0; i < 1000; i++)
        waiting.push(
          (frames.add(shared) ?? Promise.reject()).then(() => {
            settled++;
          }),
        );
    };
    expect(flood).toThrow(expect.objectContaining({ code: 'LT_CLUSTER_SLOW' }));
    expect(waiting.length * shared.bytes).toBeLessThan(2 ** 29);
    await Promise.resolve();
    expect(settled).toBe(0);
    frames.clear();
    await Promise.all(waiting);
    expect(settled).toBe(waiting.length);
  });
});

describe("a worker's session", () => {
  const options = { name: 'honest', patienceMs: 0, onNote: () => {} };

  test("a worker's session does not come back to a coordinator that is malformed", async () => {
    let connects = 0;
    const connect = async () => {
      connects++;
      return new Coordinator((coordinator) => coordinator.say({ type: 'commit', step: 1 })).connection;
    };
    await expect(new WorkerSession({ ...options, engines: engineCache, connect }).run()).rejects.toEqual(MALFORMED);
    expect(connects).toBe(1);
  });

  test("a worker's session has the patience it was told to have once its coordinator goes, also before it has worked", async () => {
    let aheadMs = 0;
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
    let connects = 0;
    const connect = async () => {
      const final = ++connects === 2;
      return new Coordinator((coordinator) => {
        if (!final) aheadMs = 60_000;
        coordinator.say({ type: 'stop', reason: 'stopped', final });
      }).connection;
    };
    try {
      const session = new WorkerSession({ ...options, patienceMs: 30_000, engines: engineCache, connect });
      expect(await session.run()).toBe('done');
    } finally {
      clock.mockRestore();
    }
  });

  test("a worker's session comes back ever later to a coordinator that lets it in and sends it away", async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    let connects = 0;
    const connect = async () => {
      connects++;
      const stop = { type: 'stop', reason: 'stopped', final: false } as const;
      return new Coordinator((coordinator) => coordinator.say(stop)).connection;
    };
    const session = new WorkerSession({ ...options, engines: engineCache, connect });
    const over = session.run();
    await vi.advanceTimersByTimeAsync(60_000);
    // After 1, 2, 4, 8 and then every 10 seconds.
    expect(connects).toBeGreaterThan(5);
    expect(connects).toBeLessThan(12);
    session.leave();
    await vi.advanceTimersByTimeAsync(20_000);
    expect(await over).toBe('left');
  });
});

describe('a worker in a process of its own', () => {
  const MOST_GROWTH_BYTES = 400 * 2 ** 20;
  /** Bytes of messages to send, as long as the worker accepts them. */
  const FLOOD_BYTES = 2 * 2 ** 30;

  slowTest(
    'a worker process takes bounded memory from a coordinator that deals for ever, and ends in one line',
    async () => {
      let connection: CoordinatorConnection | undefined;
      let connections = 0;
      const { server, url, ended } = await startServer(
        {},
        {
          version: version(),
          onConnection: (one) => {
            connections++;
            connection = one;
            one.onControl = onlyFromWorker({ join: () => one.send(welcome()), progress: () => {}, ready: () => {} });
          },
        },
      );
      onTestFinished(() => server.close());
      const worker = new Lantrain(['worker', url], process.cwd());
      onTestFinished(() => void worker.child.kill('SIGKILL'));
      await until(() => worker.text.includes('compiled'), 'its kernels are compiled', 60_000);
      // The engine is ready after its last kernel.
      await new Promise((resolve) => setTimeout(resolve, 2000));
      connection?.send({ type: 'admit', version: 0 });
      const before = residentBytes(worker);
      const message = assign(1, { microBatches: microBatches(1000, 2000) });
      let most = before;
      for (let sent = 0; sent < FLOOD_BYTES && connection?.isOpen; sent += 8e6) {
        connection.send({ ...message, assignment: 1 + sent / 8e6 });
        await until(() => !connection?.isOpen || connection.stats.bufferedAmount < 2 ** 24, 'it is read', 30_000);
        most = Math.max(most, residentBytes(worker));
      }
      expect(connection?.isOpen).toBe(false);
      expect(most - before).toBeLessThan(MOST_GROWTH_BYTES);
      expect(await worker.ended).toBe(1);
      expect(worker.text.trim().split('\n').at(-1)).toMatch(/^error LT_CLUSTER_MALFORMED: .*work of \d+ bytes at once/);
      expect(worker.text.match(/error/g)).toHaveLength(1);
      expect(ended[0]?.code).toBe('LT_CLUSTER_MALFORMED');
      expect(connections).toBe(1);
    },
  );
});

function residentBytes({ child }: Lantrain): number {
  try {
    const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? [];
    return 1024 * Number(kilobytes ?? 0);
  } catch {
    return 0;
  }
}
