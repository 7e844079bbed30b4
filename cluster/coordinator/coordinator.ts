import { randomInt } from 'node:crypto';
import { LantrainError } from '../../src/errors.js';
import { adapterTitle, type Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { Decoder } from '../../src/model/decoder.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { fromLossGrid } from '../../src/model/sums.js';
import {
  type EngineOptions,
  nonFinite,
  StepAbandoned,
  type StepOutcome,
  type TrainingEngine,
} from '../../src/train/engine.js';
import { FIRST_LOSS_SCALE, type LossScale, nextLossScale } from '../../src/train/loss-scale.js';
import { clipScaleOf, type TrainingState } from '../../src/train/optimizer.js';
import { StateGate } from '../../src/train/state-gate.js';
import { LOSS_BUCKET_VALUES, lossOf } from '../exchange/blocks.js';
import { weightsChecksum } from '../exchange/checksum.js';
import { ClusterOwner } from '../exchange/owner.js';
import type { OwnBitClass, Probe } from '../protocol/bit-class.js';
import {
  type ContributionHeader,
  type Frame,
  HEADER_BYTES,
  payloadIntact,
  sealFrame,
  type WeightsHeader,
} from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import {
  type CoordinatorMessage,
  type EndReason,
  type Handlers,
  type MessageFromWorker,
  type MicroBatchData,
  stopBecause,
  type WorkerMessage,
} from '../protocol/protocol.js';
import { MAX_TOKEN_BYTES, packTokens, tokenBytes } from '../protocol/tokens.js';
import { Reducer } from '../reducer/reducer.js';
import {
  type ContributionId,
  OWNER,
  Round,
  type RoundAction,
  type RoundEvent,
  type RoundNote,
  type WorkerId,
} from '../round/round.js';
import { countOf, type IdSet, membersOf, microBatchSet } from '../round/sets.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import { personOf } from '../transport/person.js';
import type { Contributor } from '../worker/worker-tally.js';
import { Credits } from './credits.js';
import { FairSlots } from './fair-slots.js';
import { OwnerAdapter, type OwnTaskGiver } from './owner-adapter.js';
import { AwakeClock, addSaid, BusyTime, emptyTotals, type WorkerTotals } from './times.js';
import { WorkerClasses } from './worker-class.js';

export interface ClusterOptions extends EngineOptions {
  readonly seed: number;
  /** Micro-batches and tokens of a step. */
  readonly microBatches: number;
  readonly tokensPerStep: number;
  /** Updates behind the weights that the run goes on from, and the count of this run's coordinators. */
  readonly version: number;
  readonly incarnation: number;
  readonly minWorkers: number;
  readonly exact: boolean;
  readonly audit: number;
  readonly ownClass: OwnBitClass;
  /** False where this process is not to compute, whatever it is asked to confirm. True by default. */
  readonly ownerComputes?: boolean;
  /** Decides what is audited: uniform in [0, 1). By default nobody can foresee it. */
  readonly draw?: () => number;
  /** What the adapter can still take, where that is known. */
  readonly availableBytes?: () => number | undefined;
  /** By person, the first step of this run to which it contributed under an earlier coordinator. */
  readonly firstSteps?: ReadonlyMap<string, number>;
  /** Classes in notes are names, as `Member.bitClass`. */
  readonly onNote: (note: RoundNote, step: number) => void;
  /** The owner's adapter cannot compute, and the run goes on without. */
  readonly onOwnerUnable?: (reason: string) => void;
}

/** What the owner is called among its workers; no worker is called so. */
export const OWNER_NAME = 'the owner';

/** A worker as the coordinator's shell knows it. */
export interface Member {
  readonly id: WorkerId;
  readonly connection: CoordinatorConnection;
  name: string;
  adapter: string;
  /** What people call its class; empty until it is known. */
  bitClass: string;
  /** What it still owes before it can be a worker: `join`, then the hash of each probe. */
  readonly owes: Set<'join' | Probe>;
  readonly hashes: { -readonly [P in Probe]?: string };
  /** It was handed to the round. */
  joined: boolean;
  /** Frames to it, in the order in which the round asked for them. */
  sending: Promise<void>;
  /** A place in memory for a whole bucket on its way to it. */
  readonly takeWhole: () => Promise<() => void>;
  /** The newest assignment, as far as it has told of it; for whoever shows it. */
  doing: Doing;
  /** Since it is here. */
  readonly totals: WorkerTotals;
  /** When it said last where its time went. */
  saidAt: number;
}

export interface Doing {
  readonly kind: 'nothing' | 'step' | 'evaluate';
  readonly assignment: number;
  readonly dealt: number;
  done: number;
  /** Contributions come in. */
  uploading: boolean;
}

const NOTHING: Doing = { kind: 'nothing', assignment: 0, dealt: 0, done: 0, uploading: false };

/** A contribution whose bytes are still here. */
type Held =
  | {
      readonly kind: 'frame';
      readonly header: ContributionHeader;
      readonly frame: Frame;
      readonly free: () => void;
      /** Of its payload, once it was checked. */
      digest?: string;
    }
  | { readonly kind: 'losses'; readonly sum: bigint; readonly free: () => void };

interface Job<T> {
  readonly batches: readonly MicroBatch[];
  readonly resolve: (result: T) => void;
  readonly reject: (error: unknown) => void;
}

type Event = DistributiveOmit<RoundEvent, 'now'>;

const TICK_MS = 200;
const MOST_GONE = 256;
/** Whoever is not heard of while this process does not run has not been silent. */
const MOST_PAUSE_MS = 5 * TICK_MS;
/** Whole buckets in memory on their way to workers, of all workers together. */
const MOST_WHOLES = 16;
/** Micro-batches of one evaluation, if they fit into a message; longer lists go in parts. */
const EVALUATION_MICRO_BATCHES = 128;

/**
 * The shell around `Round`: sockets, the host's sums, the owner's adapter and the clock. It feeds events, carries out
 * actions in their order, and decides nothing. To the training loop it is an engine like the single process's.
 */
export class ClusterEngine implements TrainingEngine {
  /** Taking contributions in, and updates with the packing of their differences. */
  readonly times = { sum: new BusyTime(), update: new BusyTime() };
  readonly members = new Map<WorkerId, Member>();
  /** Names of the last ones that left: what they sent before may be found wrong only now. */
  readonly #namesOfGone = new Map<WorkerId, string>();
  readonly credits = new Credits();
  lossScale: LossScale | undefined;
  readonly #round: Round;
  /** The round's. */
  readonly #clock = new AwakeClock(MOST_PAUSE_MS);
  readonly #own: OwnerAdapter;
  readonly #held = new Map<ContributionId, Held>();
  /** Digests, told in the order in which they were asked for. */
  #digests: Promise<void> = Promise.resolve();
  readonly #classes: WorkerClasses;
  /** The sealed differences of each bucket to the newest version that is stepped. */
  readonly #differences: ({ readonly version: number; readonly message: Uint8Array } | undefined)[] = [];
  readonly #wholes = new FairSlots(MOST_WHOLES);
  /** What happened while the actions of another event were carried out. */
  readonly #events: Event[] = [];
  #handling = false;
  readonly #timer: NodeJS.Timeout;
  #nextContribution = 1;
  /** With clipping the norm is known before the updates. */
  #step: (Job<StepOutcome> & { readonly step: number; readonly learningRate: number; gradNorm?: number }) | undefined;
  #evaluation: Job<bigint | undefined> | undefined;
  #evaluationSum = 0n;
  /** Updates that the round has committed, and those behind the weights on the adapter, which follow. */
  #version: number;
  #weightsVersion: number;
  #updating = 0;
  /** Reads of whole buckets and commits, in the order in which the round asked for them. */
  #ordered: Promise<void> = Promise.resolve();
  #failure: unknown;
  #abandoned: Error | undefined;
  readonly #gate = new StateGate();
  #closeUpdate: () => void = () => {};
  #closing = false;
  readonly #draw: () => number;
  #decoder: Decoder | undefined;

  private constructor(
    readonly gpu: Gpu,
    readonly kernels: KernelCache,
    readonly layout: ParameterLayout,
    readonly options: ClusterOptions,
    readonly owner: ClusterOwner,
    readonly reducer: Reducer,
  ) {
    const { version, incarnation, clip, minWorkers, audit, ownClass, exact } = options;
    if (options.shape.precision === 'f16') this.lossScale = FIRST_LOSS_SCALE;
    this.#version = version;
    this.#weightsVersion = version;
    this.#round = new Round({
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
    });
    this.#draw = options.draw ?? privateDraw;
    this.#classes = new WorkerClasses(ownClass);
    this.#own = new OwnerAdapter(kernels, owner.state.weights, options, this.#ownTaskGiver());
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  static async create(gpu: Gpu, shaders: ShaderTexts, options: ClusterOptions): Promise<ClusterEngine> {
    const kernels = new KernelCache(gpu, shaders);
    const layout = new ParameterLayout(options.model, options.plan);
    // With clipping no bucket is updated before all of them are complete, and then nothing more is needed of workers.
    const owner = await ClusterOwner.build(kernels, layout, options.adamw, options.clip === 0);
    const reducer = new Reducer([...owner.buckets.map((b) => b.size), LOSS_BUCKET_VALUES]);
    return new ClusterEngine(gpu, kernels, layout, options, owner, reducer);
  }

  get state(): TrainingState {
    return this.owner.state;
  }

  /** Has the owner's adapter ready to compute before it is needed; `onOwnerUnable` is told where that fails. */
  prepareOwner(onProgress?: (done: number, total: number) => void): Promise<void> {
    return this.#own.prepare(onProgress);
  }

  /** What the owner's adapter computes now, and whether it has ever been asked to. */
  get ownWork(): Pick<OwnerAdapter, 'task' | 'hasBegun'> {
    return this.#own;
  }

  nameOf(worker: WorkerId): string {
    return worker === OWNER
      ? OWNER_NAME
      : (this.members.get(worker)?.name ?? this.#namesOfGone.get(worker) ?? `worker ${worker}`);
  }

  get ownerContributor(): Contributor {
    return { name: OWNER_NAME, adapter: adapterTitle(this.gpu.adapter), bitClass: this.options.ownClass.name };
  }

  get counters() {
    return this.#round.counters;
  }

  get workers() {
    return this.#round.workers();
  }

  /** A worker that the transport has authenticated. */
  admit(connection: CoordinatorConnection): void {
    const { id } = connection;
    const member: Member = {
      id,
      connection,
      name: `worker ${id}`,
      adapter: '',
      bitClass: '',
      owes: new Set(['join', 'reference', 'run']),
      hashes: {},
      joined: false,
      sending: Promise.resolve(),
      takeWhole: this.#wholes.taker(personOf(connection.peer)),
      doing: NOTHING,
      totals: emptyTotals(),
      saidAt: performance.now(),
    };
    this.members.set(id, member);
    connection.onClose = (error) => this.#left(member, error.message);
    connection.onFrame = (frame) => this.#contribution(member, frame);
    connection.onControl = {
      join: (m) => this.#welcome(member, m),
      probed: (m) => this.#probed(member, m),
      leave: (m) => connection.close(new LantrainError('LT_CLUSTER_CLOSED', plain(m.reason))),
      // Nobody honest says any of these before it is admitted.
      ...ofMembers(member, {
        ready: () => this.#event({ type: 'life', worker: id }),
        mismatch: (m) => {
          for (const bucket of m.buckets) this.#event({ type: 'mismatch', worker: id, bucket });
        },
        progress: (m) => {
          if (member.doing.assignment === m.assignment) member.doing.done = Math.min(m.done, member.doing.dealt);
          this.#event({ type: 'progress', worker: id, assignment: m.assignment, begun: m.begun });
        },
        'handed-back': (m) => {
          const microBatches = microBatchSet(m.microBatches);
          this.#event({ type: 'handed-back', worker: id, assignment: m.assignment, microBatches });
        },
        refused: (m) => {
          this.#refused(id, m.assignment, microBatchSet([m.microBatch]), plain(m.what));
        },
        evaluated: (m) => this.#evaluated(member, m),
        stats: (m) => {
          member.doing = NOTHING;
          const now = performance.now();
          addSaid(member.totals, m, now - member.saidAt);
          member.saidAt = now;
        },
      }),
    };
  }

  /** Ends a worker's connection, for good as far as it is honest. Returns its name; false when it is gone. */
  drop(worker: WorkerId): string | false {
    const member = this.members.get(worker);
    if (member === undefined) return false;
    member.connection.close(
      new LantrainError('LT_CLUSTER_DROPPED', 'whoever controls the run has dropped this worker'),
    );
    return member.name;
  }

  /** As `Engine.step`, by the workers. */
  step(batches: readonly MicroBatch[], step: number, _seed: number, learningRate: number): Promise<StepOutcome> {
    return new Promise((resolve, reject) => {
      this.#checkGoing();
      this.#step = { batches, step, learningRate, resolve, reject };
      this.#updating = 0;
      this.#event({ type: 'begin-step', step, microBatches: batches.length });
    });
  }

  /** As `Engine.evaluate`, by the workers. */
  async evaluate(batches: readonly MicroBatch[], tokens: number): Promise<number> {
    const { model, shape } = this.options;
    const fitting = Math.floor(MAX_TOKEN_BYTES / tokenBytes(model.vocabSize, shape.batch * shape.context));
    const most = Math.max(1, Math.min(EVALUATION_MICRO_BATCHES, fitting));
    let sum: bigint | undefined = 0n;
    for (let at = 0; at < batches.length; at += most) {
      const part = await this.#evaluatePart(batches.slice(at, at + most));
      sum = sum === undefined || part === undefined ? undefined : sum + part;
    }
    return sum === undefined ? Number.NaN : fromLossGrid(sum) / tokens;
  }

  #evaluatePart(batches: readonly MicroBatch[]): Promise<bigint | undefined> {
    return new Promise((resolve, reject) => {
      this.#checkGoing();
      this.#evaluation = { batches, resolve, reject };
      this.#evaluationSum = 0n;
      this.#event({ type: 'begin-evaluation', microBatches: batches.length });
    });
  }

  get version(): number {
    return this.#weightsVersion;
  }

  /** Commits wait as well, and so do the reads of whole buckets that come after them. */
  holdState<T>(read: () => Promise<T>): Promise<T> {
    return this.#gate.read(() => this.owner.readBefore(read));
  }

  /** A step whose sums are complete needs nobody any more, so it is finished. */
  abandon(why: Error = new StepAbandoned()): void {
    this.#abandoned ??= why;
    if (this.#round.completesStep) return;
    if (this.#step !== undefined || this.#evaluation !== undefined) this.#event({ type: 'stop' });
  }

  /** The sampling graph, on the owner's adapter. */
  async sampler(): Promise<Decoder> {
    // Whatever the owner's adapter cannot build is freed again, and nothing else with it.
    await this.#own.settled();
    this.#decoder ??= await Decoder.build(this.kernels, this.options.plan, this.state.weights);
    return this.#decoder;
  }

  /** Sends the workers away, for good if the run is done, and frees the host's threads. */
  async close(reason: EndReason): Promise<void> {
    clearInterval(this.#timer);
    this.#closing = true;
    this.#own.dropAll();
    for (const { connection } of this.members.values()) if (connection.isOpen) connection.send(stopBecause(reason));
    await this.#ordered;
    await this.reducer.close();
  }

  #checkGoing(): void {
    const why = this.#failure ?? this.#abandoned;
    if (why !== undefined) throw why;
  }

  /** Hands an event to the round; one at a time, since carrying out actions can close connections, which are events. */
  #event(event: Event): void {
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) this.#handle(next);
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#handling = false;
    }
  }

  #handle(event: Event): void {
    if (this.#failure === undefined)
      for (const action of this.#round.handle({ ...event, now: this.#clock.now() } as RoundEvent))
        this.#carryOut(action);
    else if (event.type === 'contribution') this.#release(event.contribution);
    // Not before its notes, which name it.
    if (event.type === 'worker-left') {
      this.#namesOfGone.set(event.worker, this.nameOf(event.worker));
      const [oldest] = this.#namesOfGone.keys();
      if (this.#namesOfGone.size > MOST_GONE) this.#namesOfGone.delete(oldest);
      this.members.delete(event.worker);
      this.credits.left(event.worker);
    }
  }

  /** A defect or a failed adapter: the job in hand ends with it, and so does every later one. */
  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#own.dropAll();
    this.#closeUpdate();
    this.#step?.reject(this.#failure);
    this.#evaluation?.reject(this.#failure);
    for (const contribution of [...this.#held.keys()]) this.#release(contribution);
  }

  #tick(): void {
    for (const { id, connection, joined } of this.members.values())
      if (joined && connection.stats.silentMs < 2 * TICK_MS) this.#event({ type: 'life', worker: id });
    this.#event({ type: 'tick' });
  }

  #welcome(member: Member, join: MessageFromWorker<'join'>): void {
    const { connection } = member;
    if (!member.owes.delete('join')) throw malformed('join was said already');
    const { model, plan, shape, seed, incarnation, microBatches, tokensPerStep } = this.options;
    const name = plain(join.name);
    member.name = name === '' || lettersOf(name) === lettersOf(OWNER_NAME) ? `worker ${member.id}` : name;
    member.adapter = plain(join.adapter);
    const buckets = this.owner.buckets.length + 1;
    connection.frames = { incarnation, buckets, microBatches, kinds: ['contribution'] };
    connection.send({
      type: 'welcome',
      worker: member.id,
      incarnation,
      step: this.#version + 1,
      model,
      plan,
      shape,
      seed,
      microBatches,
      tokensPerStep,
      buckets,
      ...(join.lacksShaders ? { shaders: { ...this.kernels.texts } } : {}),
    });
    const { nonce } = this.options.ownClass;
    connection.send({ type: 'probe', probe: 'reference', nonce });
    connection.send({ type: 'probe', probe: 'run', nonce });
  }

  #probed(member: Member, { probe, hash }: MessageFromWorker<'probed'>): void {
    const { owes, hashes } = member;
    if (owes.has('join') || !owes.delete(probe)) throw malformed(`the hash of ${probe} was not asked for`);
    hashes[probe] = hash;
    const { reference, run } = hashes;
    if (reference === undefined || run === undefined) return;
    const { key, name } = this.#classes.of({ reference, run });
    member.bitClass = name;
    member.joined = true;
    const { id, connection } = member;
    this.#event({ type: 'worker-joined', worker: id, bitClass: key, person: personOf(connection.peer) });
  }

  #left(member: Member, reason: string): void {
    if (member.joined) this.#event({ type: 'worker-left', worker: member.id, reason: plain(reason) });
    else this.members.delete(member.id);
  }

  /** The bytes count against the receive pool until the promise settles. */
  #contribution(member: Member, frame: Frame): Promise<void> {
    const { header } = frame;
    if (header.kind !== 'contribution') throw malformed('weights came up');
    if (!member.joined) throw malformed('a contribution of who is not admitted');
    const { assignment } = header;
    if (this.credits.kindOf(assignment) === 'evaluate')
      throw new LantrainError(
        'LT_CLUSTER_IMPOSSIBLE',
        `assignment ${assignment} is an evaluation, which has no frames`,
      );
    if (member.doing.assignment === assignment) member.doing.uploading = true;
    return this.#hold(member.id, frame, header);
  }

  /** Hands a contribution to the round. Resolves when its bytes may go. */
  #hold(worker: WorkerId, frame: Frame, header: ContributionHeader): Promise<void> {
    return new Promise((free) => {
      const contribution = this.#nextContribution++;
      this.#held.set(contribution, { kind: 'frame', header, frame, free });
      const { incarnation, step, assignment, bucket } = header;
      this.credits.arrived(assignment, worker, performance.now());
      const { microBatches } = header;
      const event = { contribution, worker, draw: this.#draw(), incarnation, step, assignment, bucket, microBatches };
      this.#event({ type: 'contribution', ...event });
    });
  }

  /** The result of an evaluation is a contribution to the loss bucket, small enough for a control message. */
  #evaluated(member: Member, m: MessageFromWorker<'evaluated'>): void {
    const { id: worker } = member;
    const { assignment } = m;
    if (this.credits.kindOf(assignment) === 'step')
      throw new LantrainError('LT_CLUSTER_IMPOSSIBLE', `assignment ${assignment} is no evaluation`);
    if (member.doing.assignment === assignment) member.doing = NOTHING;
    const microBatches = microBatchSet(m.microBatches);
    if (m.finite) this.#losses(worker, assignment, microBatches, (BigInt(m.high | 0) << 32n) + BigInt(m.low));
    else this.#refused(worker, assignment, microBatches, 'the loss');
  }

  #losses(worker: WorkerId, assignment: number, microBatches: IdSet, sum: bigint): void {
    const contribution = this.#nextContribution++;
    this.#held.set(contribution, { kind: 'losses', sum, free: () => {} });
    this.#event({
      type: 'contribution',
      contribution,
      worker,
      draw: this.#draw(),
      incarnation: this.options.incarnation,
      step: this.#version,
      assignment,
      bucket: this.owner.buckets.length,
      microBatches,
    });
  }

  #refused(worker: WorkerId, assignment: number, microBatches: IdSet, reason: string): void {
    this.#event({ type: 'refused', worker, assignment, microBatches, reason });
  }

  /** The owner's adapter speaks as a worker does. */
  #ownTaskGiver(): OwnTaskGiver {
    return {
      withWeights: (version, work) =>
        this.#gate.read(() => (this.#weightsVersion === version && !this.#closing ? work() : undefined)),
      contributed: (_task, frame) => this.#hold(OWNER, frame, frame.header as ContributionHeader),
      evaluated: ({ assignment, batches }, losses) =>
        this.#losses(OWNER, assignment, microBatchSet(batches.keys()), losses),
      refused: ({ assignment }, microBatches, what) =>
        this.#refused(OWNER, assignment, microBatchSet(microBatches), what),
      unable: (reason) => {
        // Its adapter is closed with the run, maybe in the middle of something.
        if (this.#closing || this.#failure !== undefined) return;
        this.options.onOwnerUnable?.(reason);
        this.#event({ type: 'owner-unable' });
      },
    };
  }

  #carryOut(action: RoundAction): void {
    switch (action.type) {
      case 'admit':
        this.#tell(action.worker, { type: 'admit', version: action.version });
        break;
      case 'close':
        this.members
          .get(action.worker)
          ?.connection.close(new LantrainError(action.code, this.#classes.readable(action.reason)));
        break;
      case 'send':
        this.#send(action);
        break;
      case 'assign':
        this.#assign(action);
        break;
      case 'hand-back': {
        const { worker, assignment } = action;
        this.#tell(worker, { type: 'hand-back', assignment, microBatches: [...membersOf(action.microBatches)] });
        break;
      }
      case 'revoke':
        if (action.worker === OWNER) this.#own.drop(action.assignment);
        this.#tell(action.worker, { type: 'revoke', assignment: action.assignment });
        break;
      case 'add':
        this.#add(action.contribution, action.bucket);
        break;
      case 'check':
        this.#check(action.contribution);
        break;
      case 'release':
        this.#release(action.contribution);
        break;
      case 'norm':
        this.#background(this.times.update.during(this.#norm()));
        break;
      case 'update':
        this.#background(this.times.update.during(this.#update(action.step, action.bucket)));
        break;
      case 'commit':
        this.#commit(action.step);
        break;
      case 'evaluated':
        this.#evaluation?.resolve(action.finite ? this.#evaluationSum : undefined);
        this.#evaluation = undefined;
        this.#jobEnded();
        break;
      case 'stopped':
        this.#stopped(action);
        break;
      case 'log':
        if (!this.#closing) this.options.onNote(this.#readable(action.note), action.step);
        break;
      default:
        action satisfies never;
    }
  }

  #jobEnded(): void {
    this.#own.dropAll();
    this.credits.end();
  }

  /** The note with names of bit classes where the round has its keys. */
  #readable(note: RoundNote): RoundNote {
    return {
      ...note,
      ...('bitClass' in note ? { bitClass: this.#classes.readable(note.bitClass) } : {}),
      ...('reason' in note ? { reason: this.#classes.readable(note.reason) } : {}),
    };
  }

  #tell(worker: WorkerId, message: CoordinatorMessage): void {
    const connection = this.members.get(worker)?.connection;
    if (connection?.isOpen) connection.send(message);
  }

  #background(work: Promise<unknown>): void {
    work.catch((error) => this.#fail(error));
  }

  #send({ worker, bucket, version, form }: Extract<RoundAction, { type: 'send' }>): void {
    const member = this.members.get(worker);
    if (member === undefined) return;
    const { connection } = member;
    const kept = this.#differences[bucket];
    const difference = form === 'difference' && kept?.version === version ? kept.message : undefined;
    const sent = () => this.#event({ type: 'sent', worker });
    // Whole buckets are read first and differences lie ready, so each worker has a queue that keeps their order.
    // Whoever is gone gets nothing: a connection that ends says so by itself.
    if (difference) {
      member.sending = member.sending.then(() => void connection.sendFrame(difference).then(sent, () => {}));
      return;
    }
    member.sending = member.sending.then(async () => {
      const free = await member.takeWhole();
      if (!connection.isOpen) return free();
      const message = await this.#readWhole(bucket);
      if (message === undefined) return free();
      connection
        .sendFrame(message)
        .then(sent, () => {})
        .finally(free);
    });
  }

  /** The bucket's weights, sealed as the version that they are by then: the one that was asked for or a later one. */
  async #readWhole(bucket: number): Promise<Uint8Array | undefined> {
    let message: Uint8Array | undefined;
    await this.#inOrder(async () => {
      message = await this.owner.readWeights(bucket, HEADER_BYTES);
      const weights = weightsChecksum(new Uint32Array(message.buffer, HEADER_BYTES));
      this.#seal(message, { kind: 'weights-whole', step: this.#weightsVersion, base: 0, bucket, weights });
    });
    return this.#failure === undefined ? message : undefined;
  }

  /** Never rejects. */
  #inOrder(work: () => Promise<void>): Promise<void> {
    this.#ordered = this.#ordered.then(work).catch((error) => this.#fail(error));
    return this.#ordered;
  }

  #seal(message: Uint8Array, header: Omit<WeightsHeader, 'incarnation' | 'assignment'>): void {
    sealFrame(message, { ...header, incarnation: this.options.incarnation, assignment: 0 });
  }

  #assign(action: Extract<RoundAction, { type: 'assign' }>): void {
    const batches = (action.kind === 'step' ? this.#step : this.#evaluation)?.batches;
    if (!batches) return;
    if (action.worker === OWNER) {
      this.#assignOwn(action, batches);
      return;
    }
    const member = this.members.get(action.worker);
    if (!member) return;
    const { connection } = member;
    const indices = [...membersOf(action.microBatches)];
    const { kind } = action;
    member.doing = { kind, assignment: action.assignment, dealt: indices.length, done: 0, uploading: false };
    const { vocabSize } = this.options.model;
    const microBatches: MicroBatchData[] = indices.map((microBatch) => {
      const { tokens, targets, firstSlot: slot } = batches[microBatch];
      return { microBatch, slot, tokens: packTokens(tokens, vocabSize), targets: packTokens(targets, vocabSize) };
    });
    const { assignment } = action;
    this.credits.deal(assignment, action.worker, contributorOf(member), kind, performance.now());
    if (action.kind === 'evaluate') {
      connection.send({ type: 'evaluate', assignment, version: action.step, microBatches });
      return;
    }
    const buckets = [...membersOf(action.buckets)];
    const all = buckets.length === this.owner.buckets.length + 1;
    connection.send({
      type: 'assign',
      assignment,
      step: action.step,
      microBatches,
      ...(all ? {} : { buckets }),
      ...(this.lossScale ? { scaleExponent: this.lossScale.exponent } : {}),
    });
  }

  #assignOwn(action: Extract<RoundAction, { type: 'assign' }>, batches: readonly MicroBatch[]): void {
    const { assignment, kind, step } = action;
    this.credits.deal(assignment, OWNER, this.ownerContributor, kind, performance.now());
    this.#own.take({
      kind,
      assignment,
      step,
      version: kind === 'step' ? step - 1 : step,
      batches: new Map([...membersOf(action.microBatches)].map((microBatch) => [microBatch, batches[microBatch]])),
      buckets: kind === 'step' ? [...membersOf(action.buckets)] : [],
      ...(this.lossScale ? { scaleExponent: this.lossScale.exponent } : {}),
    });
  }

  #add(contribution: ContributionId, bucket: number): void {
    const held = this.#held.get(contribution);
    if (!held) return;
    this.times.sum.begin();
    const finish = (ok: boolean, reason?: string) => {
      this.times.sum.end();
      this.#release(contribution);
      if (ok && held.kind === 'frame' && bucket === this.owner.buckets.length)
        this.credits.count(held.header.assignment, held.header.microBatches, held.digest);
      this.#event({ type: 'added', contribution, ok, reason });
    };
    if (held.kind === 'losses') {
      this.#evaluationSum += held.sum;
      finish(true);
      return;
    }
    if (!payloadIntact(held.frame)) {
      finish(false, 'its payload does not match its checksum');
      return;
    }
    const { payload, bytes } = held.frame;
    const size = countOf(held.header.microBatches);
    const isLoss = bucket === this.owner.buckets.length;
    const terms = isLoss ? size * (this.options.tokensPerStep / this.options.microBatches) : size;
    // A message that lies in a buffer of its own, as large ones do, is moved to the summing thread.
    const owned = payload.buffer.byteLength === bytes;
    this.reducer.add(bucket, payload, terms, owned).then(
      (added) => finish(added === 'added', added === 'added' ? undefined : added.refused),
      (error) => this.#fail(error),
    );
  }

  #check(contribution: ContributionId): void {
    const held = this.#held.get(contribution);
    if (held?.kind !== 'frame') return;
    const { payload } = held.frame;
    // Beside this thread, which has others to serve.
    const digest = payloadIntact(held.frame) ? digestOf(payload) : Promise.resolve(undefined);
    const before = this.#digests;
    const tell = async () => {
      const found = await digest;
      await before;
      const { assignment, bucket, microBatches } = held.header;
      held.digest = found;
      if (found !== undefined && bucket === this.owner.buckets.length)
        this.credits.checked(assignment, microBatches, found);
      if (this.#failure === undefined) this.#event({ type: 'checked', contribution, digest: found });
    };
    this.#digests = tell().catch((error) => this.#fail(error));
  }

  #release(contribution: ContributionId): void {
    this.#held.get(contribution)?.free();
    this.#held.delete(contribution);
  }

  /** With clipping: the norm of all gradients, then what all updates of the step share. */
  async #norm(): Promise<void> {
    const job = this.#job();
    await this.#openUpdate();
    for (const bucket of this.owner.buckets.keys())
      await this.reducer.read(bucket, (low, high) => this.owner.submitNorm(bucket, low, high));
    const gradNorm = Math.sqrt(await this.owner.readSquares());
    job.gradNorm = gradNorm;
    this.owner.beginUpdate(job.step, job.learningRate, clipScaleOf(this.options.clip, gradNorm));
    this.#updating = job.step;
    this.#event({ type: 'norm-known' });
  }

  async #update(step: number, bucket: number): Promise<void> {
    const job = this.#job();
    if (this.#updating !== step) {
      this.owner.beginUpdate(step, job.learningRate, 1);
      this.#updating = step;
    }
    await this.#change(() => this.reducer.take(bucket, (low, high) => this.owner.submitUpdate(bucket, low, high)));
    const message = await this.owner.pack(bucket, HEADER_BYTES);
    const [a, b] = new Uint32Array(message.buffer, HEADER_BYTES + 8, 2);
    this.#seal(message, { kind: 'weights-difference', step, base: step - 1, bucket, weights: { a, b } });
    this.#differences[bucket] = { version: step, message };
    this.#event({ type: 'updated', bucket });
  }

  #commit(step: number): void {
    const job = this.#job();
    this.#step = undefined;
    this.#version = step;
    this.credits.commit(this.options.tokensPerStep / this.options.microBatches, (worker, _who, tokens, workMs) => {
      const totals = this.members.get(worker)?.totals;
      if (!totals) return;
      totals.tokens += tokens;
      totals.workMs += workMs;
    });
    this.#jobEnded();
    for (const { connection, joined } of this.members.values())
      if (joined && connection.isOpen) connection.send({ type: 'commit', step });
    const lossBucket = this.owner.buckets.length;
    void this.#inOrder(async () => {
      try {
        await this.#change(() => {
          this.owner.commit();
          this.#weightsVersion = step;
        });
        this.#closeUpdate();
        const { loss, halvings } = await this.reducer.take(lossBucket, lossOf);
        if (this.lossScale) this.lossScale = nextLossScale(this.lossScale, halvings, this.options.microBatches);
        const gradNorm = job.gradNorm ?? Math.sqrt(await this.owner.readSquares());
        job.resolve({ loss: fromLossGrid(loss) / this.options.tokensPerStep, gradNorm });
      } catch (error) {
        // It is not in hand any more, so nobody else tells it.
        job.reject(error);
        throw error;
      }
    });
  }

  /** With clipping one update of the gate lasts from before the first bucket to the commit: no moments are kept. */
  #openUpdate(): Promise<void> {
    return new Promise((open) => {
      void this.#gate.update(() => {
        open();
        return new Promise<void>((close) => {
          this.#closeUpdate = close;
          // It has waited for a reader, and nobody closes it any more.
          if (this.#failure !== undefined) close();
        });
      });
    });
  }

  /** Without clipping each bucket, and the commit, is an update of the gate by itself. */
  #change<T>(work: () => T | Promise<T>): T | Promise<T> {
    return this.options.clip > 0 ? work() : this.#gate.update(work);
  }

  #job() {
    if (!this.#step) throw new Error('no step is in hand');
    return this.#step;
  }

  #stopped({ step, reason }: Extract<RoundAction, { type: 'stopped' }>): void {
    if (reason.why === 'asked') this.#fail(this.#abandoned ?? new StepAbandoned());
    else if (reason.why === 'refused') {
      this.#fail(nonFinite(step, `micro-batch ${reason.microBatch} (${reason.reason})`));
    } else if (reason.why === 'audit') {
      const names = reason.workers.map((id) => this.nameOf(id)).join(' and ');
      this.#fail(
        new LantrainError(
          'LT_CLUSTER_AUDIT',
          `step ${step}: ${names} do not agree on bucket ${reason.bucket}; one of them lies or has faulty memory`,
        ),
      );
    }
  }
}

/** What a worker says goes to terminals and logs: one line, no control characters. */
function plain(text: string): string {
  return text
    .replace(/\p{C}+/gu, ' ')
    .trim()
    .slice(0, 200);
}

/** Names that look alike but for spaces, signs and case have the same letters. */
function lettersOf(name: string): string {
  return name
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}

export function contributorOf({ name, adapter, bitClass }: Member): Contributor {
  return { name, adapter, bitClass };
}

/** Handlers of what only a member may say. */
type MemberHandlers = Omit<Handlers<WorkerMessage>, 'join' | 'probed' | 'leave'>;

/** Each throws LT_CLUSTER_MALFORMED before the worker is a member. */
function ofMembers(member: Member, handlers: MemberHandlers): MemberHandlers {
  const guarded = Object.entries(handlers).map(([type, handler]) => [
    type,
    (message: never) => {
      if (!member.joined) throw malformed(`${type} of who is not admitted`);
      (handler as (message: never) => void)(message);
    },
  ]);
  return Object.fromEntries(guarded);
}

async function digestOf(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)).toString('hex');
}

/** Uniform in [0, 1), and nobody's to foresee. */
function privateDraw(): number {
  return randomInt(2 ** 47) / 2 ** 47;
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
