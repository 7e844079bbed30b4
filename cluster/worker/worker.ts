import { LantrainError } from '../../src/errors.js';
import { adapterTitle } from '../../src/gpu/device.js';
import { withoutDriversWords } from '../../src/gpu/driver-words.js';
import { IGNORED_TARGET, type MicroBatch } from '../../src/model/gpt.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { runnablePlan } from '../../src/model/plan.js';
import type { StepReport } from '../../src/model/sums.js';
import type { EngineKeeper } from '../coordinator/engine-keeper.js';
import { packLoss } from '../exchange/blocks.js';
import { type Checksum, equalChecksums } from '../exchange/checksum.js';
import {
  type Assign,
  type CoordinatorMessage,
  encodeFrame,
  type Frame,
  HEADER_BYTES,
  type MicroBatchData,
  MicroBatchSet,
  malformed,
  sealFrame,
  unpackTokens,
  type Welcome,
} from '../protocol/protocol.js';
import type { WorkerConnection } from '../transport/connection.js';
import { HeldFrames } from './held-frames.js';
import { HeldWork, type Work } from './held-work.js';
import { Upload } from './upload.js';
import type { ScaledBatch, WorkerEngine } from './worker-engine.js';

/** What a worker tells of itself, for whoever shows it. */
export type WorkerNote =
  | { readonly note: 'welcome'; readonly worker: number; readonly step: number }
  | /** The adapter cannot run the plan's kernels and takes its own, whose bits differ. */ {
      readonly note: 'own-kernels';
    }
  | { readonly note: 'compiling'; readonly done: number; readonly total: number }
  | { readonly note: 'ready'; readonly version: number }
  | {
      readonly note: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Of the step's tokens. */
      readonly share: number;
    };

export interface WorkerOptions {
  /** Outlives this connection. One worker at a time may use it. */
  readonly engines: EngineKeeper;
  readonly name: string;
  readonly onNote?: (note: WorkerNote) => void;
  /** Milliseconds to sleep after each micro-batch: for tests, a slow worker. */
  readonly drag?: number;
}

/** What waits for its turn; of an assignment, its work. */
interface Task {
  readonly run: () => Promise<void>;
  readonly work?: Work;
}

/** Probes that wait at once: a coordinator asks for two. */
const MOST_PROBES = 4;

/**
 * A worker: computes what it is dealt with the weights it is sent, and owns nothing. Two queues keep order: tasks
 * (assignments, in the order in which they came) and weights (frames and commits). Work for step s waits until every
 * bucket is at version s - 1 and verified. What a coordinator sends ahead is held in bounded memory (`HeldWork`,
 * `HeldFrames`); beyond that the connection ends with LT_CLUSTER_MALFORMED, which is not tried again.
 */
export class Worker {
  readonly #connection: WorkerConnection;
  readonly #options: WorkerOptions;
  readonly #works = new HeldWork();
  #frames: HeldFrames | undefined;
  #engine: WorkerEngine | undefined;
  #welcome: Welcome | undefined;
  #bucketVersions: number[] = [];
  #expected: Checksum[] = [];
  #verified = -1;
  #waiting: { readonly version: number; readonly go: () => void; readonly stop: (error: unknown) => void }[] = [];
  /** When the last assignment was done, when the first weights after it came, and when they were in place. */
  #times = { idle: performance.now(), weights: 0, verified: 0 };
  #tasks: Task[] = [];
  #probes = 0;
  #work: Promise<void> | undefined;
  #weights: Promise<void> | undefined;
  /** More weights, or a commit, came while some were applied. */
  #moreWeights = false;
  #over: LantrainError | undefined;
  #tellEnd: (reason: LantrainError) => void = () => {};
  readonly #ended: Promise<LantrainError>;

  constructor(connection: WorkerConnection, options: WorkerOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#ended = new Promise((end) => {
      this.#tellEnd = end;
    });
    connection.onClose = (error) => this.#end(error);
    connection.onFrame = (frame) => this.#onFrame(frame);
    connection.onControl = {
      welcome: (m) => {
        if (this.#welcome !== undefined) throw malformed('a second welcome');
        this.#welcome = m;
        this.#queue({ run: () => this.#setUp(m) });
      },
      probe: (m) => {
        if (++this.#probes > MOST_PROBES) throw malformed(`${this.#probes} probes at once`);
        this.#queue({ run: () => this.#probe(m) });
      },
      weights: (m) => this.#announce(m.version),
      commit: (m) => {
        this.#weightsCame();
        this.#announce(m.step);
      },
      assign: ({ assignment, step, microBatches, buckets, scaleExponent }) => {
        if (step > this.#ready().frames.announced + 1) throw malformed(`work of step ${step}, which is not yet`);
        const work = this.#works.begin(assignment, microBatches, buckets);
        this.#queue({ run: () => this.#compute({ step, buckets, scaleExponent }, work), work });
      },
      evaluate: ({ assignment, version, microBatches }) => {
        if (version > this.#ready().frames.announced) throw malformed(`version ${version}, which is not yet`);
        const work = this.#works.begin(assignment, microBatches);
        this.#queue({ run: () => this.#evaluate(version, work), work });
      },
      reclaim: ({ assignment, microBatches: wanted }) => {
        const microBatches = this.#works.handBack(assignment, wanted);
        this.#connection.send({ type: 'handedBack', assignment, microBatches });
      },
      fence: (m) => this.#fence(m.assignment),
      pause: () => {},
      stop: ({ final, reason }) => {
        const code = final ? 'LT_CLUSTER_DONE' : 'LT_CLUSTER_CLOSED';
        this.#end(new LantrainError(code, `the coordinator has stopped: ${reason}`));
      },
      error: (m) => this.#end(new LantrainError('LT_CLUSTER_CLOSED', `the coordinator says ${m.code}: ${m.message}`)),
    };
    const { adapter } = options.engines.gpu;
    const described = adapterTitle(adapter).slice(0, 1000);
    const lacksShaders = !options.engines.hasShaders;
    connection.send({ type: 'join', name: options.name, adapter: described, software: adapter.software, lacksShaders });
  }

  /** Works until the connection ends or the coordinator stops; resolves with the reason, and with no work in hand. */
  async run(): Promise<LantrainError> {
    const reason = await this.#ended;
    await Promise.all([this.#work, this.#weights]);
    return reason;
  }

  #end(reason: LantrainError): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
    this.#works.fenceAll();
    this.#tasks = [];
    this.#frames?.clear();
    for (const { stop } of this.#waiting.splice(0)) stop(reason);
    this.#tellEnd(reason);
  }

  /** Leaves in good order. */
  leave(reason: string): void {
    if (this.#connection.isOpen) this.#connection.send({ type: 'leave', reason });
    this.#connection.close(new LantrainError('LT_CLUSTER_CLOSED', reason));
  }

  #queue(task: Task): void {
    if (this.#over !== undefined) return;
    this.#tasks.push(task);
    this.#work ??= this.#runTasks();
  }

  async #runTasks(): Promise<void> {
    try {
      for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift()) await task.run();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#work = undefined;
    }
  }

  /** What has not begun goes at once: a coordinator that deals and fences must not fill the memory either. */
  #fence(assignment: number): void {
    const work = this.#works.fence(assignment);
    if (work === undefined || work.running) return;
    this.#tasks = this.#tasks.filter((task) => task.work !== work);
    this.#works.finish(work);
  }

  /** A failure of this worker's own: it says so and ends, nothing of the run is harmed. */
  #fail(error: unknown): void {
    const known =
      error instanceof LantrainError ? error : new LantrainError('LT_CLUSTER_WORKER', `the worker failed: ${error}`);
    // The coordinator shows it to its user, who knows nothing of this machine's driver.
    this.#connection.close(new LantrainError(known.code, withoutDriversWords(known), { cause: known }));
    this.#end(known);
  }

  async #setUp(welcome: Welcome): Promise<void> {
    const { engines, onNote } = this.#options;
    const { gpu } = engines;
    const plan = runnablePlan(welcome.plan, gpu.adapter);
    if (welcome.shape.precision === 'f16' && !gpu.has('shader-f16'))
      throw new LantrainError(
        'LT_CLUSTER_WORKER',
        `the run computes in float16, which needs shader-f16, and ${adapterTitle(gpu.adapter)} has not that feature`,
      );
    const buckets = new ParameterLayout(welcome.model, plan).buckets();
    if (welcome.buckets !== buckets.length + 1)
      throw malformed(`${welcome.buckets} buckets for a model of ${buckets.length} and the loss`);
    onNote?.({ note: 'welcome', worker: welcome.worker, step: welcome.step });
    if (plan !== welcome.plan) onNote?.({ note: 'own-kernels' });
    this.#engine = await engines.get({ ...welcome, plan }, (done, total) =>
      onNote?.({ note: 'compiling', done, total }),
    );
    this.#bucketVersions = buckets.map(() => -1);
    this.#frames = new HeldFrames(buckets.map(({ size }) => size));
    // Before that, none is due.
    this.#connection.frames = {
      incarnation: welcome.incarnation,
      buckets: welcome.buckets,
      microBatches: welcome.microBatches,
      kinds: ['weights-whole', 'weights-difference'],
    };
  }

  #ready(): { engine: WorkerEngine; welcome: Welcome; frames: HeldFrames } {
    if (!this.#engine || !this.#welcome || !this.#frames) throw malformed('work before the answer to a welcome');
    return { engine: this.#engine, welcome: this.#welcome, frames: this.#frames };
  }

  async #probe({ probe, nonce }: Extract<CoordinatorMessage, { type: 'probe' }>): Promise<void> {
    this.#ready();
    const hash = await this.#options.engines.probe(probe, nonce);
    this.#probes--;
    this.#connection.send({ type: 'hashes', probe, hash });
  }

  #onFrame(frame: Frame): Promise<void> | undefined {
    const { frames } = this.#ready();
    this.#weightsCame();
    const taken = frames.add(frame);
    if (taken !== undefined) this.#applySoon();
    return taken;
  }

  #weightsCame(): void {
    if (this.#times.weights < this.#times.idle) this.#times.weights = performance.now();
  }

  /** Weights up to `version` take effect. */
  #announce(version: number): void {
    this.#ready().frames.announce(version);
    this.#applySoon();
  }

  #applySoon(): void {
    this.#moreWeights = true;
    this.#weights ??= this.#applyAll();
  }

  async #applyAll(): Promise<void> {
    try {
      while (this.#moreWeights && this.#over === undefined) {
        this.#moreWeights = false;
        await this.#applyDue();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#weights = undefined;
    }
  }

  /** Applies what is committed, in the order in which it came; verifies once every bucket is there. */
  async #applyDue(): Promise<void> {
    const { engine, frames } = this.#ready();
    const { announced } = frames;
    let moved = false;
    for (const { header, payload } of frames.takeDue()) {
      const { bucket, step: version } = header;
      // What the bucket is past already was meant for an earlier state: it came, or will come, whole.
      if (header.kind === 'weights-difference' && this.#bucketVersions[bucket] !== header.base) continue;
      try {
        if (header.kind === 'weights-whole') engine.follower.load(bucket, payload);
        else engine.follower.apply(bucket, payload);
      } catch (error) {
        if (!(error instanceof LantrainError) || error.code !== 'LT_CLUSTER_FRAME') throw error;
        this.#lacks(version, [bucket]);
        continue;
      }
      this.#bucketVersions[bucket] = version;
      this.#expected[bucket] = header.weights;
      moved = true;
    }
    if (moved && this.#bucketVersions.every((v) => v === announced)) await this.#verify(announced);
  }

  /** These buckets are needed whole. */
  #lacks(version: number, buckets: readonly number[]): void {
    for (const bucket of buckets) this.#bucketVersions[bucket] = -1;
    this.#connection.send({ type: 'mismatch', version, buckets: [...buckets] });
  }

  async #verify(version: number): Promise<void> {
    const { engine } = this.#ready();
    const sums = await engine.checks.read();
    const wrong = sums.flatMap((sum, i) => (equalChecksums(sum, this.#expected[i]) ? [] : [i]));
    if (wrong.length > 0) {
      this.#lacks(version, wrong);
      return;
    }
    this.#verified = version;
    this.#times.verified = performance.now();
    this.#connection.send({ type: 'ready', version });
    this.#options.onNote?.({ note: 'ready', version });
    this.#waiting = this.#waiting.filter((w) => {
      if (w.version > version) return true;
      w.go();
      return false;
    });
  }

  #atVersion(version: number): Promise<void> {
    if (this.#verified >= version) return Promise.resolve();
    return new Promise((go, stop) => this.#waiting.push({ version, go, stop }));
  }

  /**
   * Computes an assignment's micro-batches. Once nothing is left that could be handed back, their set is fixed: with
   * the last one, each bucket goes up as soon as its sums are final.
   */
  async #compute(message: Pick<Assign, 'step' | 'buckets' | 'scaleExponent'>, work: Work): Promise<void> {
    const { engine, welcome } = this.#ready();
    const { assignment } = work;
    const { step } = message;
    work.running = true;
    const done: number[] = [];
    const upload = new Upload(message.buckets);
    let report: StepReport | undefined;
    try {
      await this.#atVersion(step - 1);
      engine.gpt.submitWeights();
      const started = performance.now();
      const { idle, weights, verified } = this.#times;
      const idleMs = started - idle;
      const downloadMs = Math.max(0, verified - Math.max(weights, idle));
      const context = { seed: welcome.seed, step, lossScale: 1 / welcome.tokensPerStep };
      const scaled: ScaledBatch[] = [];
      let halvings = 0;
      const begin = () => {
        const set = MicroBatchSet.of(done);
        upload.begin((bucket) => this.#contribute(step, work, set, bucket, report, halvings));
      };
      for (let next = this.#take(work); next.length > 0 && !work.fenced; next = this.#take(work)) {
        this.#progress(work, done.length);
        const ids = next.map((data) => data.microBatch);
        done.push(...ids);
        const batches = next.map((data) => this.#unpack(data));
        if (message.scaleExponent !== undefined) {
          report = await engine.gradientByScale(batches[0], context, message.scaleExponent, scaled);
          halvings += message.scaleExponent - scaled[scaled.length - 1].exponent;
        } else if (work.begun === work.microBatches.length) {
          begin();
          report = await engine.gradientByBucket(batches, context, (bucket) => upload.add(bucket));
        } else report = await engine.gradient(batches, context);
        if (report.wrong.length > 0) {
          const what = report.wrong.slice(0, 3).join(', ');
          await upload.giveUp();
          const microBatch = ids[await engine.wrongOf(batches, context)];
          this.#connection.send({ type: 'refuse', assignment, microBatch, status: 1, what });
          return;
        }
        this.#progress(work, done.length);
        if (this.#options.drag) await new Promise((go) => setTimeout(go, ids.length * (this.#options.drag ?? 0)));
      }
      if (work.fenced || done.length === 0) return;
      const computed = performance.now();
      const tokens = done.length * engine.gpt.rows;
      const share = tokens / welcome.tokensPerStep;
      this.#options.onNote?.({ note: 'computed', step, tokens, milliseconds: computed - started, share });
      if (!upload.begun) {
        // What was left was handed back while the last one was computed.
        begin();
        for (const bucket of engine.packer.buckets.keys()) upload.add(bucket);
      }
      upload.add(welcome.buckets - 1);
      await upload.end();
      this.#times.idle = performance.now();
      const uploadMs = this.#times.idle - computed;
      const times = { computeMs: computed - started, uploadMs, downloadMs, waitMs: idleMs - downloadMs };
      if (this.#connection.isOpen) this.#connection.send({ type: 'stats', step, ...times, tokens });
    } finally {
      await upload.giveUp();
      engine.sums.clear(engine.gpu);
      this.#works.finish(work);
    }
  }

  /** What to compute next, begun with that: a whole stack where one is left, else one; none at the end. */
  #take(work: Work): MicroBatchData[] {
    const { engine } = this.#ready();
    const { stack, shape } = engine.gpt;
    const { microBatches } = work;
    const next = microBatches.slice(work.begun, work.begun + stack);
    const isWhole = next.length === stack && next.every((m, i) => m.slot === next[0].slot + i * shape.batch);
    const taken = isWhole ? next : next.slice(0, 1);
    work.begun += taken.length;
    return taken;
  }

  /** Packs and sends the sums of one bucket; the last bucket is the loss. */
  async #contribute(
    step: number,
    work: Work,
    microBatches: MicroBatchSet,
    bucket: number,
    report: StepReport | undefined,
    halvings: number,
  ): Promise<void> {
    if (work.fenced) return;
    const { engine, welcome } = this.#ready();
    const { incarnation } = welcome;
    const { assignment } = work;
    const header = { kind: 'contribution', incarnation, assignment, step, bucket, microBatches } as const;
    let message: Uint8Array;
    if (bucket === welcome.buckets - 1) message = encodeFrame(header, packLoss(report?.lossGrid ?? 0n, halvings));
    else {
      message = await engine.packer.pack(bucket, HEADER_BYTES);
      sealFrame(message, header);
    }
    if (!work.fenced) await this.#connection.sendFrame(message);
  }

  async #evaluate(version: number, work: Work): Promise<void> {
    const { engine } = this.#ready();
    const { assignment } = work;
    work.running = true;
    try {
      await this.#atVersion(version);
      engine.gpt.submitWeights();
      let [low, high, tokens, finite] = [0n, 0, 0, true];
      while (work.begun < work.microBatches.length) {
        if (work.fenced) return;
        const data = work.microBatches[work.begun++];
        this.#progress(work, work.begun - 1);
        const batch = this.#unpack(data);
        const report = await engine.losses([batch]);
        low += report.lossGrid;
        finite &&= report.wrong.length === 0;
        tokens += batch.targets.reduce((n, t) => n + Number(t !== IGNORED_TARGET), 0);
      }
      high = Number(BigInt.asUintN(32, low >> 32n));
      if (!work.fenced)
        this.#connection.send({
          type: 'evaluated',
          assignment,
          low: Number(BigInt.asUintN(32, low)),
          high,
          tokens,
          finite,
        });
    } finally {
      this.#works.finish(work);
    }
  }

  #progress(work: Work, done: number): void {
    if (this.#connection.isOpen)
      this.#connection.send({ type: 'progress', assignment: work.assignment, begun: work.begun, done });
  }

  #unpack(data: MicroBatchData): MicroBatch {
    const { engine, welcome } = this.#ready();
    const { vocabSize } = welcome.model;
    return {
      tokens: unpackTokens(data.tokens, vocabSize, engine.gpt.rows),
      targets: unpackTokens(data.targets, vocabSize, engine.gpt.rows, true),
      firstSlot: data.slot,
    };
  }
}
