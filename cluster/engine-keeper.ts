import type { Gpu } from '../src/gpu/device.js';
import type { ShaderTexts } from '../src/gpu/kernel.js';
import { bitClassHash, type Probe } from './bit-class.js';
import { WorkerEngine, type WorkerShape } from './worker-engine.js';

/**
 * A worker's engine, kept from one connection to the next: after a coordinator's restart or a break of the network it is
 * there already, compiled, and the adapter's memory is taken once.
 */
export class EngineKeeper {
  #made: { readonly shape: WorkerShape; readonly name: string; readonly engine: WorkerEngine } | undefined;
  readonly #hashes = new Map<Probe, string>();

  constructor(
    readonly gpu: Gpu,
    readonly shaders: ShaderTexts,
  ) {}

  /** The engine of this shape, its sums zero; one of another shape is gone then. */
  async get(
    { model, shape, plan }: WorkerShape,
    onProgress?: (done: number, total: number) => void,
  ): Promise<WorkerEngine> {
    const name = JSON.stringify([model, shape, plan]);
    if (this.#made?.name !== name) {
      this.#made = undefined;
      this.#hashes.clear();
      this.gpu.releaseAll();
      const wanted = { model, shape, plan };
      this.#made = {
        shape: wanted,
        name,
        engine: await WorkerEngine.create(this.gpu, this.shaders, wanted, onProgress),
      };
    }
    const { engine } = this.#made;
    engine.sums.clear(this.gpu);
    return engine;
  }

  /** The hash of a probe by the engine that is here, whose weights it may overwrite. */
  async probe(probe: Probe): Promise<string> {
    if (this.#made === undefined) throw new Error('there is no engine to probe');
    const { engine, shape } = this.#made;
    const hash = this.#hashes.get(probe) ?? (await bitClassHash(probe, this, engine, shape));
    this.#hashes.set(probe, hash);
    return hash;
  }
}
