/** The initial state of a run: fresh weights, a folder's weights, or its newest checkpoint. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Checkpoint, restoreCheckpoint } from '../checkpoint/checkpoint.js';
import { openModel } from '../checkpoint/huggingface.js';
import { checkIdentity } from '../checkpoint/identity.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { initializeWeights, type TrainingEngine } from '../train/engine.js';
import { type LossScale, LossScaleSchema } from '../train/loss-scale.js';
import { identityOf, type RunConfig } from '../train/run-config.js';
import { arenaOf } from './checkpoint-writer.js';
import type { TrainingJob } from './prepare.js';
import type { TrainRequest } from './request.js';
import { runConfigOf } from './saved-config.js';
import { noting, progressing, type Tell } from './tell.js';

/** A run to resume. */
export interface Resumed {
  readonly run: RunDirectory;
  readonly saved: RunConfig;
}

/** Opens and locks the run at `path`. Throws as `RunDirectory.open` and `runConfigOf` do. */
export async function openResumed(path: string): Promise<Resumed> {
  const run = await RunDirectory.open(path, 'write');
  try {
    return { run, saved: runConfigOf(run) };
  } catch (error) {
    run.close();
    throw error;
  }
}

/**
 * The step to go on from. Throws LT_RUN_MISMATCH, before anything has changed, where the run has other settings or all
 * its steps.
 */
export async function checkResume({ run, saved }: Resumed, job: TrainingJob, tell: Tell): Promise<number> {
  const note = noting(tell);
  const { config: wanted, gpu } = job;
  checkIdentity(run.path, identityOf(saved), identityOf(wanted));
  const { found, warnings } = await run.latest(progressing(tell, 'checking the checkpoint'));
  for (const warning of warnings) note(warning);
  if (saved.adapter !== gpu.adapter.driver && saved.options.precision !== 'portable')
    note(
      `this run began on ${saved.adapter} and goes on on ${gpu.adapter.driver}: unless both compute the same bits, its digest will differ from an undisturbed run's`,
    );
  const step = found?.state.step ?? 0;
  found?.close();
  // A run that was killed after its last step may still have to write its report.
  if (step > wanted.totalSteps || (step === wanted.totalSteps && run.isDone()))
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `${run.path} has done all its ${step} steps; ask for more with --steps (constant schedules only), or begin another run`,
    );
  return step;
}

/** Loads the state after step `from`, and cuts the run's files back to that step. */
export async function restore(run: RunDirectory, engine: TrainingEngine, from: number): Promise<void> {
  const { found } = await run.latest();
  if (found) {
    try {
      await restoreCheckpoint(found, (part, name, values) => arenaOf(engine, part).write(engine.gpu, name, values));
      await engine.state.start(found.state.step, false);
      if (engine.lossScale) engine.lossScale = lossScaleOf(found);
    } finally {
      found.close();
    }
  } else await beginState(engine, runConfigOf(run), runConfigOf(run).init);
  await run.cutBack(from);
}

/** The loss scale in a checkpoint of mixed precision. Throws LT_CHECKPOINT_CORRUPT where there is none. */
function lossScaleOf({ path, state }: Checkpoint): LossScale {
  const parsed = LossScaleSchema.safeParse(state.trainer.lossScale);
  if (parsed.success) return parsed.data;
  throw new LantrainError(
    'LT_CHECKPOINT_CORRUPT',
    `${join(path, 'state.json')}: trainer.lossScale is missing or wrong`,
  );
}

/** Gives the engine its state before the first step, of fresh weights or of those in the folder `init`. */
export async function beginState(engine: TrainingEngine, config: RunConfig, init: string | undefined): Promise<void> {
  if (init === undefined) initializeWeights(engine, config.options.weights, config.options.seed);
  else await readWeights(engine, init);
  await engine.state.start(0, true);
}

async function readWeights(engine: TrainingEngine, init: string): Promise<void> {
  const model = await openModel(init);
  try {
    for (const { name } of engine.layout.parameters)
      engine.state.weights.write(engine.gpu, name, await model.read(name));
  } finally {
    model.close();
  }
}

type Naming = Pick<TrainRequest, 'out' | 'preset' | 'init'>;

/**
 * Makes the run at `out`, else under the first free name; another process may have taken a name since the last look.
 */
export function createRun(request: Naming, config: RunConfig): Promise<RunDirectory> {
  if (request.out !== undefined) return RunDirectory.create(request.out, config);
  return RunDirectory.createFirst(freeNames(request), config);
}

/** The free paths among `runs/<preset>-1`, `runs/<preset>-2` and so on. */
export function* freeNames({ preset, init }: Naming): Generator<string, never> {
  const base = preset ?? (init === undefined ? 'tiny' : 'run');
  for (let n = 1; ; n++) {
    const path = join('runs', `${base}-${n}`);
    if (!existsSync(path)) yield path;
  }
}
