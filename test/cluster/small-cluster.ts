import { afterEach } from 'vitest';
import { ClusterEngine } from '../../cluster/coordinator/engine.js';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import type { RoundNote } from '../../cluster/round/round.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { ModelConfig } from '../../src/model/config.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { loadShaders } from '../../src/node/shaders.js';
import { initializeWeights, type TrainingEngine } from '../../src/train/engine.js';
import { startServer, type TestServer } from './transport-helpers.js';

/* A real coordinator on loopback, for a model with several small buckets. */

export const MODEL: ModelConfig = {
  vocabSize: 61,
  context: 8,
  width: 24,
  layers: 1,
  heads: 3,
  tie: false,
  qkvBias: true,
};
export const SHAPE: BatchShape = { batch: 1, context: 8, dropout: 0 };
export const MICRO_BATCHES = 4;
export const HASH = { reference: 'a'.repeat(64), run: 'b'.repeat(64) };
export const CLASS = 'c1a55c1a55c1-a55c1a55c1a5';
export const NONCE = new Uint8Array(32).fill(7);
export const ADAMW = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, decay: 'all' } as const;

export interface SmallCluster extends TestServer {
  readonly engine: ClusterEngine;
  /** Each note with its worker's name at that time. */
  readonly notes: (RoundNote & { readonly name?: string })[];
}

export function smallPlan(gpu: Gpu): Plan {
  return { ...defaultPlan(gpu.adapter), windowValues: 2 ** 13, slabValues: 2 ** 13 };
}

export function smallOptions(gpu: Gpu, more: Partial<ClusterOptions> = {}): ClusterOptions {
  return {
    model: MODEL,
    shape: SHAPE,
    plan: smallPlan(gpu),
    adamw: ADAMW,
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
    onNote: () => {},
    ...more,
  };
}

/** All that a run's state has, in words: weights, moments, and in the low wire master weights and the grid. */
export async function allPartsOf({ gpu, state }: Pick<TrainingEngine, 'gpu' | 'state'>): Promise<Uint32Array[]> {
  const { weights, m, v, master, grid } = state;
  const words: Uint32Array[] = [];
  for (const slab of [weights, m, v, master, grid].flatMap((part) => part?.slabs ?? []))
    words.push(new Uint32Array(await gpu.read(slab)));
  return words;
}

const open: SmallCluster[] = [];

/** `onConnection` is called with each worker's connection before it is admitted. */
export async function startCluster(
  gpu: Gpu,
  more: Partial<ClusterOptions> = {},
  onConnection: (connection: CoordinatorConnection) => void = () => {},
): Promise<SmallCluster> {
  const notes: SmallCluster['notes'] = [];
  const onNote = (note: RoundNote) => {
    const named = 'worker' in note && note.worker !== undefined ? { name: engine.nameOf(note.worker) } : {};
    notes.push({ ...note, ...named });
  };
  const engine: ClusterEngine = await ClusterEngine.create(gpu, loadShaders(), smallOptions(gpu, { onNote, ...more }));
  initializeWeights(engine, 'gpt2', 1);
  await engine.state.start(0, true);
  const admit = (connection: CoordinatorConnection) => {
    onConnection(connection);
    engine.admit(connection);
  };
  const test = { ...(await startServer({}, { onConnection: admit })), engine, notes };
  open.push(test);
  return test;
}

/** Closes each test's clusters at its end. */
export function closeClusters(): void {
  afterEach(async () => {
    for (const { engine, server } of open.splice(0)) {
      await engine.close('stopped');
      await server.close();
    }
  });
}
