import { LantrainError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { ShaderTexts } from '../../src/gpu/kernel.js';
import { type MemoryBudget, memoryBudget } from '../../src/model/activations.js';
import type { BatchShape } from '../../src/model/shape.js';
import { chooseStack } from '../../src/model/stack.js';
import { formatBytes } from '../../src/report/format.js';
import { bitClassHash, type Probe } from './bit-class.js';
import { WorkerEngine, type WorkerShape } from './worker-engine.js';

/** The engine that a run wants, whose steps have `microBatches`. */
export interface WantedEngine extends WorkerShape {
  readonly shaders?: ShaderTexts;
  readonly microBatches: number;
}

/** What a worker decides by itself, as it changes no bit. */
export interface WorkerMemory {
  /** Computes layers again in backward, whether the coordinator asks for it or not, or only where memory is short. */
  readonly recompute?: boolean | 'if-needed';
  /** What the adapter can still take, where that is known. */
  readonly availableBytes?: () => number | undefined;
}

/** A worker computes at most this part of a step at once, so that shares can be any number of micro-batches. */
const LARGEST_FRACTION = 1 / 4;

/**
 * A worker's engine, kept from one connection to the next: after a coordinator's restart or a break of the network it is
 * there already, compiled, and the adapter's memory is taken once.
 */
export class EngineCache {
  #made:
    | {
        readonly shape: WorkerShape;
        readonly shaders: ShaderTexts;
        readonly name: string;
        readonly engine: WorkerEngine;
      }
    | undefined;
  /** Of the coordinator's start that asked last. */
  readonly #hashes = new Map<Probe, string>();
  #nonce = '';

  /** Without shaders of its own (in a browser) it takes those that come with a shape. */
  constructor(
    readonly gpu: Gpu,
    private readonly own?: ShaderTexts,
    private readonly memory: WorkerMemory = {},
  ) {}

  get hasShaders(): boolean {
    return this.own !== undefined;
  }

  /**
   * The engine of this shape, its sums zero; one of another shape is gone then. Throws LT_GPU_MEMORY where the adapter
   * is known to have too little.
   */
  async get(
    { model, shape: asked, plan, shaders: given, microBatches }: WantedEngine,
    onProgress?: (done: number, total: number) => void,
  ): Promise<WorkerEngine> {
    const shaders = this.own ?? given;
    if (shaders === undefined) throw new LantrainError('LT_CLUSTER_MALFORMED', 'the coordinator sent no shaders');
    const single = { ...asked, recompute: asked.recompute || this.#recomputes({ model, shape: asked, plan }) };
    const name = JSON.stringify([model, single, plan, shaders, microBatches]);
    if (this.#made?.name !== name) {
      this.#made = undefined;
      this.#hashes.clear();
      this.gpu.releaseAll();
      this.#checkMemory({ model, shape: single, plan });
      const wanted = { model, shape: this.#stacked({ model, shape: single, plan }, microBatches), plan };
      const engine = await WorkerEngine.create(this.gpu, shaders, wanted, onProgress);
      this.#made = { shape: wanted, shaders, name, engine };
    }
    const { engine } = this.#made;
    engine.sums.clear(this.gpu);
    return engine;
  }

  /** The shape with a stack that pays and fits. */
  #stacked({ model, shape, plan }: WorkerShape, microBatches: number): BatchShape {
    // A micro-batch of mixed precision finds its own loss scale.
    if (shape.precision === 'f16') return shape;
    const available = this.memory.availableBytes?.() ?? Number.POSITIVE_INFINITY;
    const most = Math.max(1, Math.floor(LARGEST_FRACTION * microBatches));
    const fits = (budget: MemoryBudget) => heldBytes(budget) <= available;
    return { ...shape, stack: chooseStack(model, shape, plan, most, this.gpu.adapter, fits) };
  }

  #recomputes(wanted: WorkerShape): boolean | undefined {
    const { recompute } = this.memory;
    if (recompute !== 'if-needed') return recompute;
    return neededBytes(wanted) > (this.memory.availableBytes?.() ?? Number.POSITIVE_INFINITY);
  }

  #checkMemory(wanted: WorkerShape): void {
    const available = this.memory.availableBytes?.();
    const needed = neededBytes(wanted);
    if (available === undefined || needed <= available) return;
    const advice = neededBytes(wanted, true) <= available ? '; worker --recompute fits, with the same bits' : '';
    throw new LantrainError(
      'LT_GPU_MEMORY',
      `the run needs ${formatBytes(needed)} on this adapter, and there is ${formatBytes(available)}${advice}`,
    );
  }

  /** The hash of a probe, salted by `nonce`, by the engine that is here, whose weights it may overwrite. */
  async probe(probe: Probe, nonce: Uint8Array): Promise<string> {
    if (this.#made === undefined) throw new Error('there is no engine to probe');
    const { engine, shape, shaders } = this.#made;
    const { gpu } = this;
    if (this.#nonce !== nonce.join()) this.#hashes.clear();
    this.#nonce = nonce.join();
    const hash = this.#hashes.get(probe) ?? (await bitClassHash(probe, nonce, { gpu, shaders }, engine, shape));
    this.#hashes.set(probe, hash);
    return hash;
  }
}

function neededBytes({ model, shape, plan }: WorkerShape, recompute = shape.recompute): number {
  return heldBytes(memoryBudget(model, { ...shape, recompute }, plan));
}

/** What a worker holds on its adapter. */
function heldBytes({ stateBytes, activationBytes }: MemoryBudget): number {
  // No moments here: 12 bytes a parameter of the 20 of whoever owns the state.
  return 0.6 * stateBytes + activationBytes;
}
