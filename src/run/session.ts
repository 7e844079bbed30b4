import { join } from 'node:path';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { readMetrics } from '../report/metrics.js';
import { RunClock } from '../train/run-clock.js';
import { Trainer } from '../train/trainer.js';
import type { Ending, RunBackend } from './backend.js';
import type { RunHooks, RunResult } from './events.js';
import { headerLines } from './header.js';
import { runLoop } from './loop.js';
import { prepareJob, type TrainingJob } from './prepare.js';
import type { ReadyRun, RunContext } from './ready-run.js';
import type { TrainRequest } from './request.js';
import { explicitOptions } from './resolve.js';
import { beginState, checkResume, createRun, freeNames, openResumed, restore } from './state.js';
import { StopRequest } from './stop.js';
import { noting, type Tell } from './tell.js';

/** Resources of a run that are released however it ends. */
interface RunResources {
  /** A new run's folder; pending while it is being made. */
  created?: Promise<RunDirectory>;
  run?: RunDirectory;
  /** The return of a resumed run to its checkpoint. It is awaited, because half of it would leave temporary files. */
  restoring?: Promise<void>;
  job?: TrainingJob;
}

/**
 * Begins a run or resumes one, and trains to its end or until `hooks` stop it. Prints nothing and leaves nothing open.
 * Throws a LantrainError that says what is wrong; LT_RUN_STOPPED where the run is stopped before its first step. In
 * that case a new run's folder is removed, and unfinished preparation ends in the background.
 */
export async function runTraining(
  request: TrainRequest,
  backend: RunBackend,
  hooks: RunHooks = {},
): Promise<RunResult> {
  const stop = new StopRequest(hooks);
  let isOver = false;
  const tell: Tell = (event) => {
    if (isOver) return;
    try {
      hooks.onEvent?.(event);
    } catch (error) {
      stop.fail(error instanceof Error ? error : new Error(String(error)));
    }
  };
  const resources: RunResources = {};
  try {
    stop.signal.throwIfAborted();
    const context = { request, backend, hooks, stop, tell, clock: new RunClock() };
    return await Promise.race([trainRun(context, resources), stop.early()]);
  } catch (error) {
    isOver = true;
    if (error === stop.signal.reason) {
      await discardCreated(resources);
      await resources.restoring?.catch(() => undefined);
    }
    throw error;
  } finally {
    isOver = true;
    stop.release();
  }
}

/** Removes a new run, finished or in the making, that ends before its loop. */
async function discardCreated({ created }: RunResources): Promise<void> {
  const fresh = await created?.catch(() => undefined);
  await fresh?.discard();
  // The backend's `begin` may have written files meanwhile.
  await fresh?.discard();
}

async function trainRun(context: RunContext, resources: RunResources): Promise<RunResult> {
  let how: Ending = 'failed';
  try {
    const ready = await makeReady(context, resources);
    return await runLoop(ready, (ending) => {
      how = ending;
    });
  } finally {
    await context.backend.end?.(how);
    resources.run?.close();
    resources.job?.data.close();
    resources.job?.gpu.device.destroy();
  }
}

/** Everything before the training loop. */
async function makeReady(context: RunContext, resources: RunResources): Promise<ReadyRun> {
  const { request, backend, tell, stop } = context;
  const { resume, init, data } = request;
  if (resume !== undefined && init !== undefined)
    throw new LantrainError('LT_USAGE_OPTION', '--init begins a run and --resume goes on with one; choose one of them');
  const explicit = explicitOptions(request);
  const resumed = resume === undefined ? undefined : await openResumed(resume);
  resources.run = resumed?.run;
  const out = resume ?? request.out ?? freeNames(request).next().value;
  if (!resumed) RunDirectory.checkFree(out);
  const job = await prepareJob({
    ...request,
    explicit,
    tokens: typeof data === 'string' ? undefined : data,
    saved: resumed?.saved,
    alone: backend.workers === undefined,
    audits: backend.audits,
    signal: stop.signal,
    tell,
  });
  resources.job = job;
  const { config } = job;
  const from = resumed ? await checkResume(resumed, job, tell) : 0;
  for (const line of headerLines(job, (layout) => backend.hostMemory?.(layout, config.options.wire) ?? {}))
    noting(tell)(line);
  const engine = await backend.create(job, from, resumed?.run.root ?? out, tell);
  stop.signal.throwIfAborted();
  const trainer = new Trainer(engine, config, job.data, job.tokenizer);
  const run = resumed?.run ?? (await create(context, job, resources));
  try {
    if (resumed) {
      resources.restoring = restore(run, engine, from);
      await resources.restoring;
    } else await beginState(engine, config, init);
    const past = readMetrics(join(run.root, 'metrics.jsonl'));
    stop.signal.throwIfAborted();
    return { ...context, job, engine, trainer, run, isNew: !resumed, from, past };
  } catch (error) {
    if (!resumed) await run.discard();
    throw error;
  }
}

async function create(
  { request }: RunContext,
  { config }: TrainingJob,
  resources: RunResources,
): Promise<RunDirectory> {
  resources.created = createRun(request, config);
  resources.run = await resources.created;
  return resources.run;
}
