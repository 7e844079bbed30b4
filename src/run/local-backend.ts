import { loadShaders } from '../node/shaders.js';
import { Engine } from '../train/engine.js';
import type { Ending, RunBackend, StartedRun } from './backend.js';
import type { TrainingJob } from './prepare.js';
import { profileTable } from './profile.js';
import { engineOptions } from './resolve.js';
import { progressing, type Tell } from './tell.js';

/** The page of a run that this process trains alone. */
export interface RunPage {
  /** Throws LT_CLUSTER_LISTEN where the page could not be served. Called before anything of the run changes. */
  check(): Promise<void>;
  open(started: StartedRun): Promise<void>;
  close(how: Ending): Promise<void>;
}

/** This process computes everything itself. */
export class LocalBackend implements RunBackend {
  #engine: Engine | undefined;

  constructor(private readonly page?: RunPage) {}

  async create({ config, gpu, plan, shape }: TrainingJob, version: number, _path: string, tell: Tell): Promise<Engine> {
    // The check comes before a resumed run is cut back to its checkpoint.
    await this.page?.check();
    const onProgress = progressing(tell, 'compiling the kernels');
    this.#engine = await Engine.create(gpu, loadShaders(), {
      ...engineOptions(config, shape, plan),
      version,
      onProgress,
    });
    return this.#engine;
  }

  async begin(started: StartedRun): Promise<void> {
    await this.page?.open(started);
  }

  async end(how: Ending): Promise<void> {
    await this.page?.close(how);
  }

  async profile(): Promise<string> {
    return this.#engine ? profileTable(this.#engine) : '';
  }
}
