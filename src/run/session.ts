import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { END_REASONS, type EndReason } from '../../cluster/protocol/protocol.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import { profileTable } from '../bench/profile.js';
import { type Checkpoint, restoreCheckpoint } from '../checkpoint/checkpoint.js';
import { openModel } from '../checkpoint/huggingface.js';
import { checkIdentity } from '../checkpoint/identity.js';
import { RunDirectory } from '../checkpoint/run.js';
import { loadingBar } from '../cli/loading.js';
import { outputIsOptional, outputLost, remarkLine } from '../cli/output.js';
import { writeReport } from '../cli/report.js';
import { StopSignals } from '../cli/stop-signals.js';
import { factsOf, type Watched, watchTraining } from '../cli/watch.js';
import { LantrainError } from '../errors.js';
import { adapterTitle } from '../gpu/device.js';
import { memoryBudget } from '../model/activations.js';
import { ParameterLayout } from '../model/layout.js';
import { describeTable } from '../model/matmul-plan.js';
import { parameterCount } from '../model/parameters.js';
import { pasteable } from '../node/invocation.js';
import { loadShaders } from '../node/shaders.js';
import { formatBytes } from '../report/format.js';
import { type MetricsEvent, readMetrics, type WorkersEvent } from '../report/metrics.js';
import { lossPlot } from '../report/plot.js';
import { createReporter, type Reporter } from '../report/progress.js';
import { Engine, initializeWeights, type TrainingEngine } from '../train/engine.js';
import { type LossScale, LossScaleSchema } from '../train/loss-scale.js';
import type { PresetName, TrainOptions } from '../train/options.js';
import { RunClock } from '../train/run-clock.js';
import { identityOf, type RunConfig } from '../train/run-config.js';
import { StateSnapshot } from '../train/snapshot.js';
import { Trainer } from '../train/trainer.js';
import { RunControls } from '../watch/controls.js';
import type { PageServer } from '../watch/page-server.js';
import { Telemetry } from '../watch/telemetry.js';
import { arenaOf, Checkpoints } from './checkpoints.js';
import { adamwOf, type Job, planHash, prepareJob } from './prepare.js';
import { modelLine } from './run-facts.js';
import { markOf, noteEnd, noteWorkers, remarkOf } from './run-notes.js';
import { runConfigOf } from './saved-config.js';

export interface TrainCommand {
  readonly preset?: PresetName;
  readonly explicit: Partial<TrainOptions>;
  readonly init?: string;
  readonly out?: string;
  readonly resume?: string;
  readonly adapter?: string;
  readonly plan?: string;
  /** Undefined: only kernels of equal bits. */
  readonly tune?: boolean;
  readonly profile?: boolean;
  readonly json?: boolean;
  /** Where the page of the run is served, where that is not the conductor's business. */
  readonly watch?: readonly [host: string, port: number];
}

/** Who computes the steps of a run: this process, or a cluster that it coordinates. */
export interface Conductor {
  /** The command that goes on with its runs; `train` where it is not said. */
  readonly verb?: string;
  /** What it keeps in main memory by the size of the model, at most: bytes by what they are for. */
  hostMemory?(layout: ParameterLayout): Readonly<Record<string, number>>;
  /** The engine for updates `from + 1` on, of the run that lies (or will lie) at `path`. */
  create(job: Job, from: number, path: string): Promise<TrainingEngine>;
  /**
   * Before the first step; the weights are in place. A new run goes again where it throws. `waiting` is told when nobody
   * is there to compute, and when somebody is again.
   */
  begin?(run: RunDirectory, reporter: Reporter, watched: Watched, waiting: (waits: boolean) => void): Promise<void>;
  /** After the last, or after a failure. */
  end?(reason: EndReason): Promise<void>;
  /** Ends a worker's connection and returns its name; false when it is gone. Absent where there are no workers. */
  drop?(worker: number): string | false;
  /** It has a share of what others compute confirmed here. */
  readonly audits?: boolean;
  /** How long it may take to finish the step in hand once the end is asked for; without it, as long as it takes. */
  readonly patienceMs?: number;
  /** Who has computed so far, for the run's metrics. */
  workers?(step: number): WorkersEvent;
  /** Lines below the run's digest. */
  remarks?(run: RunDirectory): string[];
  /** After the run's digest is printed. */
  profile?(): Promise<string>;
}

/** `lantrain train`: this process computes everything itself. */
export function train(command: TrainCommand): Promise<number> {
  let engine: Engine | undefined;
  let page: PageServer | undefined;
  return runTraining(command, {
    begin: async (run, reporter, watched) => {
      if (command.watch) page = await watchTraining(run, reporter, watched, command.watch);
    },
    end: async (reason) => page?.close(END_REASONS[reason]),
    create: async ({ config, gpu, plan, shape }, version) => {
      // Before a run that goes on is cut back to its checkpoint.
      if (command.watch) await ClusterServer.checkAddress(...command.watch, 'choose another --watch HOST:PORT');
      engine = await Engine.create(gpu, loadShaders(), {
        model: config.model,
        shape,
        plan,
        adamw: adamwOf(config.options),
        clip: config.options.clip,
        microBatches: config.options.batch / config.options.microBatch,
        version,
        onProgress: loadingBar('compiling the kernels'),
      });
      return engine;
    },
    profile: async () => (engine ? profileTable(engine) : ''),
  });
}

/**
 * Begins a run or goes on with one, and trains to its end. Returns the exit code: 0 done, 130 stopped by Ctrl-C with a
 * checkpoint. Throws LT_CLUSTER_INEXACT for a run that is done and has used what is found wrong.
 */
export async function runTraining(command: TrainCommand, conductor: Conductor): Promise<number> {
  const clock = new RunClock();
  const reporter = createReporter({ json: command.json === true, now: clock.now });
  // What is lost from here on is told once there are metrics.
  outputIsOptional(() => {});
  let created: Promise<RunDirectory> | undefined;
  const stop = new StopSignals(reporter, () => void endEarly(reporter, created));
  try {
    const ready = await prepareRun({ command, conductor, reporter, clock }, (run) => {
      created = run;
    });
    const code = await runLoop({ ...ready, stop });
    // Only when the run is closed: it is whole, but for what it has used.
    const mark = code === 0 ? markOf(ready.run) : undefined;
    if (mark === undefined) return code;
    const remark = remarkOf(ready.run, mark, conductor.verb ?? 'train');
    throw new LantrainError('LT_CLUSTER_INEXACT', `${ready.run.path} is done, but ${remark}`);
  } finally {
    stop.release();
  }
}

/** All that comes before the loop. `onCreate` is told of a new run's folder, which may be in the making. */
async function prepareRun(
  request: RunRequest,
  onCreate: (run: Promise<RunDirectory>) => void,
): Promise<Omit<ReadyRun, 'stop'>> {
  const { command, conductor, reporter } = request;
  if (command.resume !== undefined && command.init !== undefined)
    throw new LantrainError('LT_USAGE_OPTION', '--init begins a run and --resume goes on with one; choose one of them');
  const resumed = command.resume === undefined ? undefined : await openRun(command.resume);
  let run = resumed?.run;
  const isNew = run === undefined;
  try {
    const out = command.resume ?? command.out ?? freeNames(command).next().value;
    if (!resumed) RunDirectory.checkFree(out);
    const job = await prepareJob({
      ...command,
      saved: resumed?.saved,
      alone: conductor.workers === undefined,
      audits: conductor.audits,
      onData: loadingBar('reading the data'),
      onNote: (line) => reporter.note(line),
    });
    const { config } = job;
    const from = resumed ? await checkResume(resumed, config, reporter, job) : 0;
    printHeader(job, reporter);
    printHostMemory(config, conductor, reporter);
    const engine = await conductor.create(job, from, resumed?.run.root ?? out);
    const trainer = new Trainer(engine, config, job.data, job.tokenizer);
    if (run === undefined) {
      const created = createRun(command, config);
      onCreate(created);
      run = await created;
      await begin(engine, config, command.init);
    } else await restore(run, engine, from);
    const past = readMetrics(metricsOf(run));
    return { ...request, job, engine, trainer, run, isNew, from, past };
  } catch (error) {
    if (isNew) await run?.discard();
    else run?.close();
    throw error;
  }
}

/** Before the loop nothing can be lost: a new run, which may be in the making, leaves nothing behind. */
async function endEarly(reporter: Reporter, created: Promise<RunDirectory> | undefined): Promise<void> {
  reporter.stop();
  const fresh = await created?.catch(() => undefined);
  await fresh?.discard();
  // A conductor that begins may have been writing meanwhile.
  await fresh?.discard();
  process.stderr.write('stopped before the first step\n');
  process.exit(130);
}

/** What a run is asked for, and where it shows itself. */
interface RunRequest {
  readonly command: TrainCommand;
  readonly conductor: Conductor;
  readonly reporter: Reporter;
  readonly clock: RunClock;
}

/** A run that is all set. */
interface ReadyRun extends RunRequest {
  readonly stop: StopSignals;
  readonly job: Job;
  readonly engine: TrainingEngine;
  readonly trainer: Trainer;
  readonly run: RunDirectory;
  readonly isNew: boolean;
  readonly from: number;
  /** The events that the run has already. */
  readonly past: readonly MetricsEvent[];
}

const metricsOf = (run: RunDirectory) => join(run.root, 'metrics.jsonl');

async function runLoop(ready: ReadyRun): Promise<number> {
  const { command, conductor, reporter, clock, stop, job, engine, trainer, run, isNew, from, past } = ready;
  const { config } = job;
  const controls = new RunControls({
    stop: () => stop.ask(),
    save: () => {
      const isNew = !trainer.isSaved;
      // A checkpoint that cannot be written ends the run, which tells of it.
      trainer.save().catch(() => undefined);
      return isNew;
    },
    drop: conductor.drop && ((worker) => conductor.drop?.(worker) ?? false),
    changed: () => {
      telemetry.paused = controls.paused;
      telemetry.stopping = controls.stopping;
    },
  });
  const facts = factsOf(config, run.path, conductor.drop ? 'cluster' : 'single');
  const telemetry = new Telemetry(facts, past, clock.now);
  const standing = () => whatStands(run, telemetry.step);
  outputIsOptional((stream, why) => {
    const text = outputLost(stream, why);
    if (stream === 'stdout') remarkLine(text);
    telemetry.log('output', text);
    const event: MetricsEvent = { event: 'output', step: telemetry.step, reason: text };
    try {
      run.append(event);
    } catch {
      // A disk that is full for one is full for the other: the next event of the run meets it, and says so.
    }
  });
  const plot = async () => run.writePlot(lossPlot(readMetrics(metricsOf(run)), plotLabels(config, trainer)));
  const checkpoints = new Checkpoints(run, engine, job, reporter);
  let reason: EndReason = 'failed';
  let hasBegun = false;
  try {
    try {
      await conductor.begin?.(run, reporter, { telemetry, controls }, (waits) => {
        if (waits) clock.stand('waiting');
        else clock.goOn('waiting');
        telemetry.state = waits ? 'waiting' : 'running';
        if (waits) stop.waiting();
      });
    } catch (error) {
      if (isNew) await run.discard();
      throw error;
    }
    hasBegun = true;
    reporter.start({
      title: `run      ${run.path}${from > 0 ? `, from step ${from}` : ''}`,
      steps: config.totalSteps,
      firstStep: from,
      stepsPerEpoch: config.stepsPerEpoch,
    });
    stop.watch({
      save: () => trainer.save(),
      abandon: () => trainer.abandon(),
      waits: () => clock.stands('waiting'),
      patienceMs: conductor.patienceMs,
      onStop: () => controls.stop(),
      standing,
    });
    const end = await trainer.run(from, {
      clock,
      has: (kind, step) => past.some((event) => event.event === kind && event.step === step),
      event: async (event) => {
        run.append(event);
        reporter.event(event);
        telemetry.event(event);
        if (event.event === 'eval') await plot();
      },
      checkpoint: (step, final) => {
        noteWorkers(run, conductor, step);
        return checkpoints.save(step, final);
      },
      stopping: () => stop.requested,
      pause: async () => {
        if (!controls.paused) return;
        // From here on, not while the step was still computing.
        clock.stand('paused');
        await controls.pause();
        clock.goOn('paused');
      },
    });
    reason = end.complete ? 'done' : 'stopped';
    await plot();
    noteWorkers(run, conductor, end.step);
    if (end.complete) {
      const done = { event: 'done', step: end.step, digest: end.digest, seconds: end.seconds } as const;
      run.append(done);
      reporter.event(done);
      telemetry.event(done);
    } else await noteEnd(run, telemetry, 'stopped');
    await writeReport(run, config);
    reporter.stop();
    printEnd(run.path, end.complete, end.step, config, reporter, conductor.verb ?? 'train');
    const mark = markOf(run);
    const exactness = mark === undefined ? '' : `, not exact since step ${mark.since}`;
    reporter.note(`digest ${end.digest} (plan ${planHash(config.plan).slice(0, 12)})${exactness}`);
    for (const line of conductor.remarks?.(run) ?? []) reporter.note(line);
    if (mark !== undefined) reporter.note(`inexact  ${remarkOf(run, mark, conductor.verb ?? 'train')}`);
    if (command.profile && conductor.profile)
      for (const line of (await conductor.profile()).split('\n')) reporter.note(line);
    return end.complete ? 0 : 130;
  } catch (error) {
    reporter.stop();
    // What fails after its end, such as the report, does not make it a run that failed.
    if (telemetry.status.state !== 'done') await noteEnd(run, telemetry, 'failed', error);
    throw hasBegun ? withStanding(error, standing()) : error;
  } finally {
    await conductor.end?.(reason);
    run.close();
    job.data.close();
  }
}

interface Resumed {
  readonly run: RunDirectory;
  readonly saved: RunConfig;
}

async function openRun(path: string): Promise<Resumed> {
  const run = await RunDirectory.open(path, 'write');
  return { run, saved: runConfigOf(run) };
}

/** The step to go on from. Throws LT_RUN_MISMATCH before anything has changed. */
async function checkResume({ run, saved }: Resumed, wanted: RunConfig, reporter: Reporter, job: Job): Promise<number> {
  checkIdentity(run.path, identityOf(saved), identityOf(wanted));
  const { found, warnings } = await run.latest(loadingBar('checking the checkpoint'));
  for (const warning of warnings) reporter.note(warning);
  if (saved.adapter !== job.gpu.adapter.driver)
    reporter.note(
      `this run began on ${saved.adapter} and goes on on ${job.gpu.adapter.driver}: unless both compute the same bits, its digest will differ from an undisturbed run's`,
    );
  const step = found?.state.step ?? 0;
  found?.close();
  // One that was ended after its last step may have reports to write still.
  if (step > wanted.totalSteps || (step === wanted.totalSteps && run.isDone()))
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `${run.path} has done all its ${step} steps; ask for more with --steps (constant schedules only), or begin another run`,
    );
  return step;
}

async function restore(run: RunDirectory, engine: TrainingEngine, from: number): Promise<void> {
  const { found } = await run.latest();
  if (found) {
    try {
      await restoreCheckpoint(found, (part, name, values) => arenaOf(engine, part).write(engine.gpu, name, values));
      if (engine.lossScale) engine.lossScale = lossScaleOf(found);
    } finally {
      found.close();
    }
  } else await begin(engine, runConfigOf(run), runConfigOf(run).init);
  await run.cutBack(from);
}

/** Throws LT_CHECKPOINT_CORRUPT where a checkpoint of a run in mixed precision has none. */
function lossScaleOf({ path, state }: Checkpoint): LossScale {
  const parsed = LossScaleSchema.safeParse(state.trainer.lossScale);
  if (parsed.success) return parsed.data;
  throw new LantrainError(
    'LT_CHECKPOINT_CORRUPT',
    `${join(path, 'state.json')}: trainer.lossScale is missing or wrong`,
  );
}

async function begin(engine: TrainingEngine, config: RunConfig, init: string | undefined): Promise<void> {
  if (init === undefined) return initializeWeights(engine, config.options.weights, config.options.seed);
  const model = await openModel(init);
  try {
    for (const { name } of engine.layout.parameters)
      engine.state.weights.write(engine.gpu, name, await model.read(name));
  } finally {
    model.close();
  }
}

/** At `--out`, else under the first free name, which another process may have taken since it was first looked for. */
function createRun(command: TrainCommand, config: RunConfig): Promise<RunDirectory> {
  if (command.out !== undefined) return RunDirectory.create(command.out, config);
  return RunDirectory.createFirst(freeNames(command), config);
}

/** Those of `runs/<preset>-1`, `-2` ... that are free. */
function* freeNames(command: TrainCommand): Generator<string, never> {
  const base = command.preset ?? (command.init === undefined ? 'tiny' : 'run');
  for (let n = 1; ; n++) {
    const path = join('runs', `${base}-${n}`);
    if (!existsSync(path)) yield path;
  }
}

function plotLabels(config: RunConfig, trainer: Trainer) {
  return {
    tokensPerStep: trainer.tokensPerStep,
    stepsPerEpoch: config.stepsPerEpoch,
    title: `${parameterCount(config.model).toLocaleString('en')} parameters on ${basename(config.options.data)}`,
  };
}

function printHeader({ config, gpu, plan, shape, budget }: Job, reporter: Reporter): void {
  const { model, options, totalSteps, stepsPerEpoch } = config;
  const { stack = 1 } = shape;
  const atOnce = stack > 1 ? `, ${stack} micro-batches at once` : '';
  reporter.note(`model    ${modelLine(config)}`);
  reporter.note(`data     ${config.data.description}`);
  reporter.note(
    `training ${totalSteps} steps of ${options.batch} x ${model.context} tokens (${stepsPerEpoch} steps an epoch)${atOnce}, AdamW ${options.lr}, seed ${options.seed}`,
  );
  reporter.note(`adapter  ${adapterTitle(gpu.adapter)}, matrix products by ${describeTable(plan.matmul)}`);
  const kept = memoryBudget(model, { ...shape, recompute: false }, config.plan).activationBytes;
  const saved = options.recompute ? ` (recomputed; kept: ${formatBytes(kept)})` : '';
  const activations = budget.activationBytes > 0 ? `, activations ${formatBytes(budget.activationBytes)}${saved}` : '';
  reporter.note(
    `memory   ${formatBytes(budget.totalBytes)} on the adapter: state ${formatBytes(budget.stateBytes)}${activations}, sampling ${formatBytes(budget.samplingBytes)}, reading back ${formatBytes(budget.readingBytes)}`,
  );
}

/** The copy of the state that a checkpoint takes, 12 bytes a parameter; a cluster's owner keeps sums and updates as well. */
function printHostMemory({ model, plan }: RunConfig, conductor: Conductor, reporter: Reporter): void {
  const layout = new ParameterLayout(model, plan);
  // Also where none is due by itself: a signal or the page may ask for one.
  const parts = {
    'copy for checkpoints': StateSnapshot.bytes(layout),
    ...conductor.hostMemory?.(layout),
  };
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  const listed = Object.entries(parts).map(([what, bytes]) => `${what} ${formatBytes(bytes)}`);
  reporter.note(`host     ${formatBytes(total)} of main memory: ${listed.join(', ')}`);
}

function printEnd(
  path: string,
  complete: boolean,
  step: number,
  config: RunConfig,
  reporter: Reporter,
  verb: string,
): void {
  if (!complete) {
    reporter.note(
      `stopped after step ${step} of ${config.totalSteps}; go on with: ${pasteable([verb, '--resume', path])}`,
    );
    return;
  }
  reporter.note(`the run lies in ${path}: report.html, loss.svg, samples.txt, metrics.jsonl, checkpoints/`);
  reporter.note(`try: ${pasteable(['generate', '--run', path, '--prompt', config.options.prompt])}`);
  if (config.options.schedule === 'constant')
    reporter.note(`  or: ${pasteable([verb, '--resume', path, '--steps', String(2 * config.totalSteps)])}`);
}

/** What failed in the middle of a run says also what of the run is left. */
function withStanding(error: unknown, standing: string): unknown {
  if (!(error instanceof LantrainError)) return error;
  return new LantrainError(error.code, `${error.message}; ${standing}`, { cause: error });
}

/** What a run that ends after `step` leaves behind. */
function whatStands(run: RunDirectory, step: number): string {
  const last = run.list().at(-1);
  const lost = step - (last?.step ?? 0);
  const steps = lost === 1 ? `step ${step} is` : `steps ${step - lost + 1} to ${step} are`;
  if (last === undefined) return lost > 0 ? `${steps} lost: there was no checkpoint yet` : 'no step was done yet';
  const stands = `the checkpoint of step ${last.step} stands: ${last.path}`;
  return lost > 0 ? `${steps} lost; ${stands}` : stands;
}
