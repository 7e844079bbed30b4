import { adapterTitle, type Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { Decoder } from '../../src/model/decoder.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { StepAbandoned, type StepOutcome, type TrainingEngine } from '../../src/train/engine.js';
import type { LossScale } from '../../src/train/loss-scale.js';
import type { TrainingState } from '../../src/train/optimizer.js';
import { StateGate } from '../../src/train/state-gate.js';
import { LOSS_BUCKET_VALUES } from '../exchange/blocks.js';
import { ClusterOwner } from '../exchange/owner.js';
import { type EndReason, stopBecause } from '../protocol/protocol.js';
import { Reducer } from '../reducer/reducer.js';
import { OWNER, type RoundAction, type RoundCounters, type WorkerId, type WorkerView } from '../round/round.js';
import { microBatchSet } from '../round/sets.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import type { Contributor } from '../worker/worker-tally.js';
import { Admission } from './admission.js';
import { actionsOf, failureOf } from './carry-out.js';
import { Credits } from './credits.js';
import { Dealing } from './dealing.js';
import { Evaluation } from './evaluation.js';
import { HeldContributions } from './held-contributions.js';
import { Members, OWNER_NAME, type RemoteWorker } from './members.js';
import type { ClusterOptions } from './options.js';
import { OwnerAdapter, type OwnTaskHost } from './owner-adapter.js';
import { RoundDriver, TICK_MS, type TimelessEvent } from './round-driver.js';
import { Step } from './step.js';
import { BusyTime } from './times.js';
import { WeightsOut } from './weights-out.js';
import { WorkerClasses } from './worker-class.js';

/**
 * The shell around `Round`: sockets, the host's sums, the owner's adapter and the clock. It feeds events, carries out
 * actions in order, and decides nothing. The training loop uses it like the engine of a single process.
 */
export class ClusterEngine implements TrainingEngine {
  /** Time of adding contributions, and of updates including the packing of differences. */
  readonly times = { sum: new BusyTime(), update: new BusyTime() };
  readonly credits = new Credits();
  readonly #members = new Members();
  readonly #gate = new StateGate();
  readonly #classes: WorkerClasses;
  readonly #driver: RoundDriver;
  readonly #weights: WeightsOut;
  readonly #contributions: HeldContributions;
  readonly #step: Step;
  readonly #evaluation: Evaluation;
  readonly #own: OwnerAdapter;
  readonly #admission: Admission;
  readonly #carryOut: (action: RoundAction) => void;
  #abandoned: Error | undefined;
  #closing = false;
  #decoder: Decoder | undefined;

  private constructor(
    readonly gpu: Gpu,
    readonly kernels: KernelCache,
    readonly layout: ParameterLayout,
    readonly options: ClusterOptions,
    readonly owner: ClusterOwner,
    readonly reducer: Reducer,
  ) {
    const { version, incarnation, clip, minWorkers, audit, ownClass, exact, model, shape, draw } = options;
    this.#classes = new WorkerClasses(ownClass);
    this.#driver = new RoundDriver(
      {
        parameterBuckets: owner.buckets.length,
        version,
        incarnation,
        clips: clip > 0,
        minWorkers,
        audit,
        ownerBitClass: ownClass.name,
        exact,
        ownerComputes: options.ownerComputes ?? true,
        firstSteps: options.firstSteps,
      },
      {
        carryOut: (action) => this.#carryOut(action),
        handled: (event) => this.#handled(event),
        failed: (error) => this.#failed(error),
        tick: () => this.#tick(),
      },
    );
    const driver = this.#driver;
    const members = this.#members;
    const { credits } = this;
    this.#weights = new WeightsOut(driver, owner, incarnation, version);
    this.#step = new Step(driver, owner, reducer, this.#weights, this.#gate, options);
    this.#evaluation = new Evaluation(driver, model.vocabSize, shape.batch * shape.context);
    this.#contributions = new HeldContributions(driver, reducer, credits, {
      incarnation,
      tokens: this.#microBatchTokens,
      draw,
      addLosses: (sum) => this.#evaluation.add(sum),
      time: this.times.sum,
    });
    this.#own = new OwnerAdapter(kernels, owner, options, this.#ownTaskHost());
    const buckets = owner.buckets.length + 1;
    const parts = {
      driver,
      members,
      credits,
      classes: this.#classes,
      contributions: this.#contributions,
      step: this.#step,
      evaluation: this.#evaluation,
      weights: this.#weights,
      own: this.#own,
    };
    this.#admission = new Admission(parts, options, buckets, kernels.texts);
    this.#carryOut = actionsOf({
      ...parts,
      dealing: new Dealing(
        parts,
        this.ownerContributor,
        { vocabSize: model.vocabSize, context: shape.context },
        buckets,
      ),
      updateTime: this.times.update,
      credit: () => this.#credit(),
      jobEnded: () => {
        this.#own.dropAll();
        credits.end();
      },
      stopped: (action) => {
        driver.fail(failureOf(action, members) ?? this.#abandoned ?? new StepAbandoned());
      },
      log: ({ note, step }) => {
        if (!this.#closing) options.onNote(this.#classes.readableNote(note), step);
      },
    });
  }

  static async create(gpu: Gpu, shaders: ShaderTexts, options: ClusterOptions): Promise<ClusterEngine> {
    const kernels = new KernelCache(gpu, shaders);
    const layout = new ParameterLayout(options.model, options.plan);
    const { clip, shape, microBatches } = options;
    const owner = await ClusterOwner.build(kernels, layout, options.adamw, {
      // With clipping no bucket is updated before all are complete, and then no worker is needed any more.
      clips: clip > 0,
      portable: shape.precision === 'portable',
      ...(shape.wire === 'low' && { lowMicroBatches: microBatches }),
    });
    const reducer = new Reducer([...owner.buckets.map((b) => b.size), LOSS_BUCKET_VALUES], { wire: shape.wire });
    return new ClusterEngine(gpu, kernels, layout, options, owner, reducer);
  }

  get state(): TrainingState {
    return this.owner.state;
  }

  get lossScale(): LossScale | undefined {
    return this.#step.lossScale;
  }

  set lossScale(scale: LossScale | undefined) {
    this.#step.lossScale = scale;
  }

  /** Connected workers; some may not be admitted yet. */
  get members(): ReadonlyMap<WorkerId, RemoteWorker> {
    return this.#members.all;
  }

  /** Builds the owner's graph before it is needed. A failure is reported by `onOwnerUnable`. */
  prepareOwner(onProgress?: (done: number, total: number) => void): Promise<void> {
    return this.#own.prepare(onProgress);
  }

  /** The task of the owner's adapter, and whether it has ever had one. */
  get ownWork(): Pick<OwnerAdapter, 'task' | 'hasBegun'> {
    return this.#own;
  }

  nameOf(worker: WorkerId): string {
    return this.#members.nameOf(worker);
  }

  get ownerContributor(): Contributor {
    return { name: OWNER_NAME, adapter: adapterTitle(this.gpu.adapter), bitClass: this.options.ownClass.name };
  }

  get counters(): Readonly<RoundCounters> {
    return this.#driver.round.counters;
  }

  get workers(): WorkerView[] {
    return this.#driver.round.workers();
  }

  /** Takes a connection that the transport has authenticated. */
  admit(connection: CoordinatorConnection): void {
    this.#admission.admit(connection);
  }

  /** Ends a worker's connection; an honest worker does not come back. Returns its name; false if it has left. */
  drop(worker: WorkerId): string | false {
    return this.#members.drop(worker);
  }

  /** Like `Engine.step`, computed by the workers. */
  async step(batches: readonly MicroBatch[], step: number, _seed: number, learningRate: number): Promise<StepOutcome> {
    await this.#step.setGrids();
    this.#checkGoing();
    return this.#step.run(batches, step, learningRate);
  }

  /** Like `Engine.evaluate`, computed by the workers. */
  evaluate(batches: readonly MicroBatch[], tokens: number): Promise<number> {
    return this.#evaluation.evaluate(batches, tokens, () => this.#checkGoing());
  }

  get version(): number {
    return this.#weights.version;
  }

  /** Meanwhile commits wait, and so do reads of whole buckets queued after them. */
  holdState<T>(read: () => Promise<T>): Promise<T> {
    return this.#gate.read(() => this.owner.readBefore(read));
  }

  /** A step whose sums are complete needs no worker any more, so it is finished. */
  abandon(why: Error = new StepAbandoned()): void {
    this.#abandoned ??= why;
    if (this.#driver.round.completesStep) return;
    if (this.#step.batches !== undefined || this.#evaluation.batches !== undefined)
      this.#driver.event({ type: 'stop' });
  }

  /** The graph for samples, on the owner's adapter. */
  async sampler(): Promise<Decoder> {
    // A failed build frees what was allocated since its start, so this waits for a running one.
    await this.#own.settled();
    this.#decoder ??= await Decoder.build(
      this.kernels,
      this.options.plan,
      this.state.weights,
      this.options.shape.precision,
    );
    return this.#decoder;
  }

  /** Stops the workers, for good if the run is done, and frees the host's threads. */
  async close(reason: EndReason): Promise<void> {
    this.#driver.close();
    this.#closing = true;
    this.#own.dropAll();
    this.#members.tellAll(stopBecause(reason), true);
    await this.#weights.settled();
    await this.reducer.close();
  }

  get #microBatchTokens(): number {
    return this.options.tokensPerStep / this.options.microBatches;
  }

  #checkGoing(): void {
    const why = this.#driver.failure ?? this.#abandoned;
    if (why !== undefined) throw why;
  }

  #handled(event: TimelessEvent): void {
    // After a failure events do not reach the round, which would have released the contribution.
    if (event.type === 'contribution' && this.#driver.hasFailed) this.#contributions.release(event.contribution);
    if (event.type !== 'worker-left') return;
    // Only after the round's notes, which name the worker.
    this.#members.remove(event.worker);
    this.credits.left(event.worker);
  }

  #failed(failure: unknown): void {
    this.#own.dropAll();
    this.#step.fail(failure);
    this.#evaluation.fail(failure);
    this.#contributions.releaseAll();
  }

  #tick(): void {
    for (const { id, connection, joined } of this.members.values())
      if (joined && connection.stats.silentMs < 2 * TICK_MS) this.#driver.event({ type: 'life', worker: id });
  }

  #credit(): void {
    this.credits.commit(this.#microBatchTokens, (worker, _who, tokens, workMs) => {
      const totals = this.#members.get(worker)?.totals;
      if (!totals) return;
      totals.tokens += tokens;
      totals.workMs += workMs;
    });
  }

  /** Passes the results of the owner's adapter to the round as a worker's. */
  #ownTaskHost(): OwnTaskHost {
    return {
      withWeights: (version, work) =>
        this.#gate.read(() => (this.#weights.version === version && !this.#closing ? work() : undefined)),
      contributed: (_task, frame) => this.#contributions.take(OWNER, frame),
      evaluated: ({ assignment, batches }, losses) =>
        this.#contributions.takeLosses(OWNER, assignment, microBatchSet(batches.keys()), losses),
      refused: ({ assignment }, refused, reason) => {
        const microBatches = microBatchSet(refused);
        this.#driver.event({ type: 'refused', worker: OWNER, assignment, microBatches, reason });
      },
      unable: (reason) => {
        // The adapter is closed with the run, perhaps during a task.
        if (this.#closing || this.#driver.hasFailed) return;
        this.options.onOwnerUnable?.(reason);
        this.#driver.event({ type: 'owner-unable' });
      },
    };
  }
}
