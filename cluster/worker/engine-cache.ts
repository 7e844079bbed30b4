import type { Portability } from '../../src/check/proven.js';
import { LantrainError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { ShaderTexts } from '../../src/gpu/kernel.js';
import { type MemoryBudget, memoryBudget, workerStateBytes } from '../../src/model/activations.js';
import type { BatchShape } from '../../src/model/shape.js';
import { chooseStack } from '../../src/model/stack.js';
import { formatBytes } from '../../src/report/format.js';
import { bitClassHash, type Probe, provenWorkerEngine } from './bit-class.js';
import type { WorkerEngine, WorkerShape } from './worker-engine.js';

/** The engine that a run needs. `microBatches`: their number in one step. */
export interface WantedEngine extends WorkerShape {
  readonly shaders?: ShaderTexts;
  readonly microBatches: number;
}

/** Memory settings that a worker chooses for itself; none changes a bit. */
export interface WorkerMemory {
  /**
   * Computes layers again in backward even if the coordinator does not ask for it. `if-needed`: only if memory is
   * short.
   */
  readonly recompute?: boolean | 'if-needed';
  /** Bytes that the adapter can still allocate, if known. */
  readonly availableBytes?: () => number | undefined;
}

/** The largest stack as a fraction of a step's micro-batches, so that assignments can have almost any size. */
const LARGEST_FRACTION = 1 / 4;

/**
 * A worker's engine, kept from one connection to the next. After a restart of the coordinator or a network failure it
 * is compiled already, and it holds the adapter's memory only once.
 */
export class EngineCache {
  #made:
    | {
        readonly shape: WorkerShape;
        readonly shaders: ShaderTexts;
        readonly name: string;
        readonly engine: WorkerEngine;
        readonly portability: Portability;
      }
    | undefined;
  /** Hashes for the nonce of the coordinator that asked last. */
  readonly #hashes = new Map<Probe, string>();
  #nonce = '';

  /** `own`: this installation's shaders. A browser has none and uses those that come with a request. */
  constructor(
    readonly gpu: Gpu,
    private readonly own?: ShaderTexts,
    private readonly memory: WorkerMemory = {},
  ) {}

  get hasShaders(): boolean {
    return this.own !== undefined;
  }

  /** What the current engine's kernels are in portable arithmetic. */
  get portability(): Portability | undefined {
    return this.#made?.portability;
  }

  /**
   * The engine of this shape, its sums zero. Frees an engine of another shape. Throws LT_GPU_MEMORY if the adapter is
   * known to have too little memory.
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
      const { engine, ...portability } = await provenWorkerEngine(this.gpu, shaders, wanted, onProgress);
      this.#made = { shape: wanted, shaders, name, engine, portability };
    }
    const { engine } = this.#made;
    engine.sums.clear(this.gpu);
    return engine;
  }

  /** The shape with the stack that is fastest and fits into memory. */
  #stacked({ model, shape, plan }: WorkerShape, microBatches: number): BatchShape {
    // In mixed precision each micro-batch finds its own loss scale, so none are stacked.
    if (shape.precision === 'f16') return shape;
    const available = this.memory.availableBytes?.() ?? Number.POSITIVE_INFINITY;
    const most = Math.max(1, Math.floor(LARGEST_FRACTION * microBatches));
    const held = workerStateBytes(model, shape, plan);
    const fits = ({ activationBytes }: MemoryBudget) => held + activationBytes <= available;
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

  /** The hash of a probe, salted with `nonce`, computed by the current engine. May overwrite its weights. */
  async probe(probe: Probe, nonce: Uint8Array): Promise<string> {
    if (this.#made === undefined) throw new Error('there is no engine to probe');
    const { engine, shape, shaders, portability } = this.#made;
    const { gpu } = this;
    if (this.#nonce !== nonce.join()) this.#hashes.clear();
    this.#nonce = nonce.join();
    const compute = () => bitClassHash(probe, nonce, { gpu, shaders }, engine, shape, portability.mismatch);
    const hash = this.#hashes.get(probe) ?? (await compute());
    this.#hashes.set(probe, hash);
    return hash;
  }
}

/** Bytes that a worker holds on its adapter. */
function neededBytes({ model, shape, plan }: WorkerShape, recompute = shape.recompute): number {
  return workerStateBytes(model, shape, plan) + memoryBudget(model, { ...shape, recompute }, plan).activationBytes;
}
