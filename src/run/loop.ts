import { basename } from 'node:path';
import { parameterCount } from '../model/parameters.js';
import type { Standstill } from '../train/run-clock.js';
import type { TrainingEnd } from '../train/trainer.js';
import { RunControls } from '../watch/server/controls.js';
import type { Ending } from './backend.js';
import { CheckpointWriter } from './checkpoint-writer.js';
import type { EndEvent, RunResult } from './events.js';
import { RunJournal } from './journal.js';
import { planHash } from './plan.js';
import type { ReadyRun } from './ready-run.js';
import { factsOf } from './run-facts.js';
import { wayBack, whatStands, withStanding } from './standing.js';
import { noting } from './tell.js';
import { writeReport } from './write-report.js';

/**
 * Trains a run that is all set to its end, or to where it is stopped; `ended` is told once its last step is saved. Throws
 * what fails, with what of the run is left once its first step could have been taken.
 */
export async function runLoop(ready: ReadyRun, ended: (how: Ending) => void): Promise<RunResult> {
  const { backend, hooks, stop, tell, clock, job, engine, trainer, run, isNew, from } = ready;
  const { config } = job;
  const { signal } = stop;
  const facts = factsOf(config, run.path, backend.drop ? 'cluster' : 'single');
  const journal = new RunJournal(run, { facts, past: ready.past, from, now: clock.now, stop: signal, tell });
  const { telemetry } = journal;
  const controls = new RunControls(
    {
      stop: () => stop.ask(),
      save: () => {
        const isNews = !trainer.isSaved;
        // A checkpoint that cannot be written ends the run, which tells of it.
        trainer.save().catch(() => undefined);
        return isNews;
      },
      drop: backend.drop && ((worker) => backend.drop?.(worker) ?? false),
      changed: () => {
        telemetry.paused = controls.paused;
      },
    },
    signal,
  );
  const stand = (why: Standstill, begins: boolean) => {
    if (begins) clock.stand(why);
    else clock.goOn(why);
    tell({ event: 'standstill', why, begins });
  };
  const standing = () => whatStands(run, journal.step);
  const title = `${parameterCount(config.model).toLocaleString('en')} parameters on ${basename(config.options.data)}`;
  const labels = { tokensPerStep: trainer.tokensPerStep, stepsPerEpoch: config.stepsPerEpoch, title };
  const plot = async () => {
    // What draws takes a third of a second to load: not before something is drawn.
    const { lossPlot } = await import('../report/plot.js');
    await run.writePlot(lossPlot(journal.losses, labels));
  };
  const noteWorkers = (step: number) => {
    const event = backend.workers?.(step);
    if (event !== undefined && event.workers.length > 0) journal.record(event);
  };
  const checkpoints = new CheckpointWriter(run, engine, job, noting(tell));
  let hasBegun = false;
  try {
    try {
      await backend.begin?.({
        run,
        journal,
        controls,
        tell,
        waiting: (waits) => {
          stand('waiting', waits);
          telemetry.state = waits ? 'waiting' : 'running';
          if (waits) stop.waiting();
        },
      });
      stop.begin({
        save: () => trainer.save(),
        abandon: () => trainer.abandon(),
        fail: (why) => engine.abandon(why),
        waits: () => clock.stands('waiting'),
        patienceMs: backend.patienceMs,
        onStop: (now) => tell({ event: 'stopping', now }),
      });
    } catch (error) {
      if (isNew) await run.discard();
      throw error;
    }
    hasBegun = true;
    tell({ event: 'begin', path: run.path, from, totalSteps: config.totalSteps, stepsPerEpoch: config.stepsPerEpoch });
    hooks.onBegin?.({
      save: () => trainer.save(),
      standing,
      outputLost: (reason) => journal.remark({ event: 'output', step: journal.step, reason }),
    });
    const end = await trainer.run(from, {
      clock,
      has: (kind) => journal.had(kind),
      phase: (phase) => tell({ event: 'phase', phase }),
      event: async (event) => {
        journal.record(event);
        if (event.event === 'eval') await plot();
      },
      checkpoint: (step, final) => {
        // Before the checkpoint of that step: a run that is killed later goes on from there, and what workers computed
        // after it is computed again.
        noteWorkers(step);
        return checkpoints.save(step, final);
      },
      stop: signal,
      pause: async () => {
        if (!controls.paused) return;
        // From here on, not while the step was still computing.
        stand('paused', true);
        await controls.pause();
        stand('paused', false);
      },
    });
    ended(end.complete ? 'done' : 'stopped');
    await plot();
    noteWorkers(end.step);
    if (end.complete) journal.record({ event: 'done', step: end.step, digest: end.digest, seconds: end.seconds });
    else journal.end('stopped');
    await writeReport(run, config);
    const result = resultOf(ready, end, journal);
    tellEnd(ready, result, journal);
    await profile(ready);
    return result;
  } catch (error) {
    // What fails after its end, such as the report, does not make it a run that failed.
    if (telemetry.status.state !== 'done') {
      const isThere = journal.end('failed', error);
      // A full disk may be why it failed, and that is told already.
      if (isThere) await writeReport(run, config).catch(() => undefined);
    }
    throw hasBegun ? withStanding(error, standing()) : error;
  }
}

function resultOf({ run, job }: ReadyRun, { step, digest, complete }: TrainingEnd, { inexact }: RunJournal): RunResult {
  const mark = inexact === undefined ? {} : { inexact: wayBack(run, inexact) };
  const { options, plan } = job.config;
  const hash = options.precision === 'portable' ? null : planHash(plan);
  return { path: run.path, step, digest, complete, planHash: hash, ...mark };
}

function tellEnd({ tell, job, backend }: ReadyRun, result: RunResult, { workers, mixed, losses }: RunJournal): void {
  const { options, totalSteps } = job.config;
  const { prompt, schedule } = options;
  const cluster = backend.workers ? { cluster: { workers, counters: backend.counters?.() ?? {}, mixed } } : {};
  const evaluation = losses.evaluations.at(-1);
  const best = losses.evaluations.reduce<EndEvent['best']>(
    (best, { step, valLoss: loss }) =>
      loss !== null && loss < (best?.loss ?? Number.POSITIVE_INFINITY) ? { step, loss } : best,
    undefined,
  );
  const isExtendable = schedule === 'constant';
  tell({ event: 'end', ...result, totalSteps, isExtendable, prompt, evaluation, best, ...cluster });
}

async function profile({ request, backend, tell }: ReadyRun): Promise<void> {
  if (!request.profile || !backend.profile) return;
  tell({ event: 'profile', table: await backend.profile() });
}
