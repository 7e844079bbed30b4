import { describeMismatch } from '../check/checking.js';
import { checkGraph } from '../check/portable-check.js';
import { CHECK_SEED, provenEngine } from '../check/proven.js';
import { checkUpdates } from '../check/update-check.js';
import type { Gpu } from '../gpu/device.js';
import { type Plan, withOwnKernels } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { loadShaders } from '../node/shaders.js';
import { Engine } from '../train/engine.js';
import type { Ending, RunBackend, StartedRun } from './backend.js';
import { planHash } from './plan.js';
import type { TrainingJob } from './prepare.js';
import { profileTable } from './profile.js';
import { engineOptions } from './resolve.js';
import { noting, progressing, type Tell } from './tell.js';

/** The page of a run that this process trains alone. */
export interface RunPage {
  /** Throws LT_CLUSTER_LISTEN where the page could not be served. Called before anything of the run changes. */
  check(): Promise<void>;
  open(started: StartedRun): Promise<void>;
  close(how: Ending): Promise<void>;
}

/**
 * Whether a run's kernels are held against the reference before it begins: in portable arithmetic, unless they are the table's
 * own for a software adapter. Those are known from tests, and the check would take a second and more at every start.
 */
function isToBeChecked({ precision }: BatchShape, plan: Plan, { adapter }: Gpu): boolean {
  if (precision !== 'portable') return false;
  return !adapter.software || planHash(plan) !== planHash(withOwnKernels(plan, adapter));
}

/** An engine whose kernels are portable, if this adapter has such; tells what is slower or differs otherwise. */
async function checked(gpu: Gpu, plan: Plan, make: (plan: Plan) => Promise<Engine>, tell: Tell): Promise<Engine> {
  const check = async ({ gpt, kernels }: Engine) =>
    (await checkGraph(gpt, CHECK_SEED)) ?? (await checkUpdates(kernels, CHECK_SEED, gpt.shape.wire));
  const { engine, fast, mismatch } = await provenEngine(plan, make, check, () => gpu.releaseAll());
  if (mismatch)
    noting(tell)(
      `the adapter does not compute portable arithmetic, so another one would end with other bits: ${describeMismatch(mismatch)}`,
    );
  else if (fast) noting(tell)(`sums are kept in order here, which is slower: ${describeMismatch(fast)}`);
  return engine;
}

/** This process computes everything itself. */
export class LocalBackend implements RunBackend {
  #engine: Engine | undefined;

  constructor(private readonly page?: RunPage) {}

  async create({ config, gpu, plan, shape }: TrainingJob, version: number, _path: string, tell: Tell): Promise<Engine> {
    // The check comes before a resumed run is cut back to its checkpoint.
    await this.page?.check();
    const onProgress = progressing(tell, 'compiling the kernels');
    const make = (one: Plan) =>
      Engine.create(gpu, loadShaders(), { ...engineOptions(config, shape, one), version, onProgress });
    this.#engine = isToBeChecked(shape, plan, gpu) ? await checked(gpu, plan, make, tell) : await make(plan);
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
