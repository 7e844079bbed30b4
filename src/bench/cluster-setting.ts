import { performance } from 'node:perf_hooks';
import { ClusterEngine } from '../../cluster/coordinator/engine.js';
import type { RemoteWorker } from '../../cluster/coordinator/members.js';
import { PROBE_NONCE_BYTES } from '../../cluster/protocol/protocol.js';
import type { Dataset } from '../data/dataset.js';
import { Windows } from '../data/windows.js';
import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { MicroBatch } from '../model/gpt.js';
import { parameterCount } from '../model/parameters.js';
import { defaultPlan } from '../model/plan.js';
import { loadShaders } from '../node/shaders.js';
import { engineOptions } from '../run/resolve.js';
import { microBatches } from '../train/batches.js';
import { initializeWeights } from '../train/engine.js';
import type { Setting } from './cluster-table.js';
import { median, rounded } from './figures.js';
import { type BenchShape, randomBatches } from './shape.js';
import { stepParts, type WorkerReport } from './step-parts.js';
import type { WaitingWorkers } from './waiting-workers.js';

/** The timed steps of a setting take about this long. */
const TIMED_MS = 20_000;
const FEWEST_STEPS = 3;
const MOST_STEPS = 50;

/** One setting: the workers and the batch. */
export interface SettingRequest {
  /** The shape, with this setting's batch. */
  readonly bench: BenchShape;
  /** Names of the waiting workers that take part. */
  readonly names: readonly string[];
  readonly waiting: WaitingWorkers;
  /** The training data; undefined: random tokens. */
  readonly data: Dataset | undefined;
  /** The coordinator's incarnation, different for every setting. */
  readonly incarnation: number;
  /** Timed steps (absent: chosen by time), and untimed steps before them. */
  readonly steps?: number;
  readonly skip: number;
  /** Rejects when a worker's process ends. */
  readonly failed: Promise<never>;
  readonly onProgress: (done: number, total: number) => void;
}

export type MeasuredSetting = Omit<Setting, 'event' | 'scaling' | 'workers' | 'batch' | 'efficiency'>;

/** Times steps of a cluster whose coordinator runs in this process on `gpu`. */
export async function measureSetting(gpu: Gpu, request: SettingRequest): Promise<MeasuredSetting> {
  const { bench, names, waiting, data, incarnation, skip, failed, onProgress } = request;
  const { options, model, shape } = bench;
  const tokensPerStep = options.batch * model.context;
  let fences = 0;
  let leave: (error: LantrainError) => void = () => {};
  const left = new Promise<never>((_, reject) => {
    leave = reject;
  });
  left.catch(() => {});
  const engine = await ClusterEngine.create(gpu, loadShaders(), {
    ...engineOptions(bench, shape, defaultPlan(gpu.adapter)),
    seed: options.seed,
    tokensPerStep,
    version: 0,
    incarnation,
    minWorkers: names.length,
    exact: false,
    audit: 0,
    // All workers may compute, and nothing is confirmed.
    ownClass: { name: 'bench', nonce: new Uint8Array(PROBE_NONCE_BYTES), salted: { reference: '', run: '' } },
    ownerComputes: false,
    onNote: (note) => {
      if (note.note === 'fence') fences++;
      if (note.note === 'leave') leave(new LantrainError('LT_CLUSTER_WORKER', `a worker left: ${note.reason}`));
    },
  });
  const members: RemoteWorker[] = [];
  try {
    initializeWeights(engine, options.weights, options.seed);
    await engine.state.start(0, true);
    for (const name of names) waiting.admit(name, engine);
    members.push(...engine.members.values());
    const batches = batchesOf(bench, data);
    let number = 0;
    const step = async () => {
      const began = performance.now();
      number++;
      const took = engine.step(batches(number), number, options.seed, options.lr);
      took.catch(() => {});
      await Promise.race([took, failed, left]);
      return performance.now() - began;
    };
    let lastMs = 0;
    for (let i = 0; i < skip; i++) lastMs = await step();
    const steps = request.steps ?? Math.min(MOST_STEPS, Math.max(FEWEST_STEPS, Math.floor(TIMED_MS / lastMs)));
    await haveReported(members);
    const before = countersOf(engine, members);
    const times: number[] = [];
    const reports: WorkerReport[] = [];
    for (let i = 0; i < steps; i++) {
      onProgress(i, steps);
      const beforeStep = countersOf(engine, members);
      times.push(await step());
      await haveReported(members);
      reports.push(reportBetween(beforeStep, countersOf(engine, members), members.length));
    }
    onProgress(steps, steps);
    const after = countersOf(engine, members);
    const stepMs = median(times);
    const ofStep = (key: keyof Counters) => (after[key] - before[key]) / steps;
    const [up, down] = [ofStep('bytesUp') / members.length, ofStep('bytesDown') / members.length];
    const parameters = parameterCount(model);
    return {
      steps,
      stepMs: rounded(stepMs, 2),
      tokensPerSecond: rounded((1000 * tokensPerStep) / stepMs, 2),
      ...stepParts(stepMs, reports),
      sumMs: rounded(ofStep('sumMs'), 2),
      updateMs: rounded(ofStep('updateMs'), 2),
      bytesUp: Math.round(up),
      bytesDown: Math.round(down),
      bytesUpPerParameter: rounded(up / parameters, 3),
      bytesDownPerParameter: rounded(down / parameters, 3),
      fences,
    };
  } finally {
    await engine.close('next-measurement');
    for (const { connection } of members)
      connection.close(new LantrainError('LT_CLUSTER_CLOSED', 'the next measurement begins'));
  }
}

/** A function from a step (from 1) to its micro-batches: from the data, or new random tokens for each step. */
function batchesOf(bench: BenchShape, data: Dataset | undefined): (step: number) => MicroBatch[] {
  const { options, model, shape } = bench;
  if (data === undefined)
    return (step) => randomBatches({ ...bench, options: { ...options, seed: options.seed + step } });
  const { batch, shuffle, seed, stride } = options;
  const { context } = model;
  const windows = new Windows({ tokens: data.train.length, context, stride: stride || context, batch, shuffle, seed });
  return (step) => microBatches(data.train, windows.startsOf(step - 1), context, shape.batch);
}

/**
 * Milliseconds to wait for the workers' reports: a worker reports a step after its last bytes, possibly after the
 * step's end.
 */
const TELL_MS = 100;

async function haveReported(members: readonly RemoteWorker[]): Promise<void> {
  const end = performance.now() + TELL_MS;
  while (members.some(({ doing }) => doing.kind !== 'nothing') && performance.now() < end)
    await new Promise((go) => setTimeout(go, 1));
}

type Counters = ReturnType<typeof countersOf>;

function countersOf(engine: ClusterEngine, members: readonly RemoteWorker[]) {
  const total = (value: (member: RemoteWorker) => number) => members.reduce((sum, member) => sum + value(member), 0);
  return {
    computeMs: total((m) => m.totals.computeMs),
    uploadMs: total((m) => m.totals.uploadMs),
    downloadMs: total((m) => m.totals.downloadMs),
    bytesUp: total((m) => m.connection.stats.bytesIn),
    bytesDown: total((m) => m.connection.stats.bytesOut),
    sumMs: engine.times.sum.milliseconds,
    updateMs: engine.times.update.milliseconds,
  };
}

/** What the workers reported of one step: their mean. */
function reportBetween(before: Counters, after: Counters, workers: number): WorkerReport {
  const each = (key: keyof WorkerReport) => (after[key] - before[key]) / workers;
  return { computeMs: each('computeMs'), uploadMs: each('uploadMs'), downloadMs: each('downloadMs') };
}
