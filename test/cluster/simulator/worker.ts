import { sets } from '../../../cluster/round/round.js';
import { Link } from './link.js';
import { type Contribution, type FromWorker, type Mutation, must, type Owner, type ToWorker } from './owner.js';
import { evaluationLoss, gradient, hashOf, type Shape, type World } from './world.js';

export interface WorkerTraits {
  readonly bitClass: string;
  readonly microBatchMs: number;
  readonly latencyMs: number;
  /** The longest time in which it takes a bucket of weights off the coordinator's hands. */
  readonly readMs: number;
  /** Milliseconds between its signs of life; 0: none but its work. */
  readonly lifeMs: number;
  /** How often it does each of these: per contribution, or per bucket of weights received. */
  readonly corrupts: number;
  readonly duplicates: number;
  readonly replays: number;
  /** Per assignment, in all buckets from the first of `liesFrom` on, in the order in which it sends them. */
  readonly lies: number;
  readonly liesFrom: number;
  /** What it adds: those who add the same agree. */
  readonly lie: number;
  readonly impossible: number;
  readonly spoilsWeights: number;
  /** Refuses each micro-batch with this chance, without cause. */
  readonly refuses: number;
  /**
   * Gives signs of life and answers, and never: begins; ends what it says that it has begun; contributes more than its
   * first bucket. `hands-back`: everything, unasked.
   */
  readonly stalls: 'no' | 'idles' | 'begins' | 'part' | 'hands-back';
  /** Only after this many assignments of each connection that it does well. */
  readonly stallsAfter: number;
  /** Comes back under a new connection when work is taken off it. */
  readonly returns: boolean;
}

/** Whether it does what an honest worker never does, whatever its luck. */
export const isBad = (t: WorkerTraits): boolean => t.lies > 0 || t.refuses > 0 || t.stalls !== 'no' || t.impossible > 0;

export const HONEST: Omit<WorkerTraits, 'bitClass' | 'microBatchMs' | 'latencyMs'> = {
  readMs: 30,
  lifeMs: 1000,
  corrupts: 0,
  duplicates: 0,
  replays: 0,
  lies: 0,
  liesFrom: 0,
  lie: 1,
  impossible: 0,
  spoilsWeights: 0,
  refuses: 0,
  stalls: 'no',
  stallsAfter: 0,
  returns: false,
};

type Assign = Extract<ToWorker, { type: 'assign' }>;

/** What a worker is computing. `sequence` are its micro-batches in order; `begun` of them have begun. */
interface Task {
  readonly assign: Assign;
  microBatches: number[];
  begun: number;
  sums: number[];
}

export interface Cluster {
  readonly world: World;
  readonly shape: Shape;
  /** The coordinator that listens now, if one does. */
  owner: Owner | undefined;
  readonly mutation?: Mutation;
  /** Micro-batches that are NaN for everybody, by step. */
  readonly poisoned: ReadonlyMap<number, number>;
  nextWorker: number;
  /** Faults that workers do by themselves have ended. */
  calm: boolean;
}

/** A worker process: a cache of the weights, a queue of assignments, and all its possible misfortunes. */
export class SimulatedWorker {
  alive = true;
  link: Link | undefined;
  #paused = false;
  #waiting: (() => void)[] = [];
  #base = 0;
  #weights: ({ version: number; value: number } | undefined)[] = [];
  #next: ({ version: number; value: number } | undefined)[] = [];
  #spoiled = new Set<number>();
  #queue: Task[] = [];
  #running: Task | undefined;
  #sent: Contribution[] = [];
  /** Assignments of this connection. */
  #doneWell = 0;

  constructor(
    readonly cluster: Cluster,
    public traits: WorkerTraits,
    /** Its address. */
    readonly person: string,
  ) {
    this.connect();
  }

  get #world(): World {
    return this.cluster.world;
  }

  /** Runs now, or when the process is continued. */
  #do(run: () => void): void {
    if (!this.alive) return;
    if (this.#paused) this.#waiting.push(run);
    else run();
  }

  #after(ms: number, run: () => void): void {
    this.#world.after(ms, () => this.#do(run));
  }

  /** SIGSTOP for a while; frames that were sent are on their way all the same. */
  pause(ms: number): void {
    if (this.#paused || !this.alive) return;
    this.#paused = true;
    this.#world.after(ms, () => {
      this.#paused = false;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const run of waiting) this.#do(run);
    });
  }

  kill(unnoticedMs: number): void {
    this.alive = false;
    this.link?.cut(unnoticedMs);
  }

  connect(): void {
    const { owner } = this.cluster;
    if (!this.alive || this.link?.open) return;
    if (owner === undefined || !owner.up || owner.stopped !== undefined) {
      this.#after(this.#world.integer(100, 500), () => this.connect());
      return;
    }
    const link = new Link(this.#world, this.cluster.nextWorker++, owner, this, this.traits.latencyMs);
    this.link = link;
    this.#weights = new Array(this.cluster.shape.parameterBuckets).fill(undefined);
    this.#next = new Array(this.cluster.shape.parameterBuckets).fill(undefined);
    this.#spoiled.clear();
    this.#doneWell = 0;
    this.#queue = [];
    this.#running = undefined;
    this.#after(this.#world.integer(1, 200), () => {
      // A coordinator that ended meanwhile does not know the connection.
      if (!owner.up) link.cut(0);
      if (!link.open || owner.stopped !== undefined) return;
      owner.joined(link, this.traits.bitClass);
      this.#live(link);
    });
  }

  disconnected(link: Link): void {
    if (this.link === link) this.#after(this.#world.integer(1, 300), () => this.connect());
  }

  #live(link: Link): void {
    if (this.traits.lifeMs === 0 || !link.open) return;
    this.#send({ type: 'life' });
    this.#after(this.traits.lifeMs, () => this.#live(link));
  }

  #send(message: FromWorker): void {
    this.link?.up(message);
  }

  #chance(p: number): boolean {
    return !this.cluster.calm && this.#world.chance(p);
  }

  receive(link: Link, message: ToWorker): void {
    this.#do(() => {
      if (this.link !== link) return;
      switch (message.type) {
        case 'admit':
          this.#base = message.version;
          break;
        case 'weights':
          this.#take(message);
          break;
        case 'commit':
          this.#commit(message.step);
          break;
        case 'assign':
          if (this.#stalls && this.traits.stalls !== 'part') {
            this.#stall(message);
            break;
          }
          this.#queue.push({ assign: message, microBatches: sets.idsOf(message.microBatches), begun: 0, sums: [] });
          break;
        case 'hand-back':
          this.#handBack(message.assignment, message.microBatches);
          break;
        case 'revoke':
          this.#queue = this.#queue.filter((task) => task.assign.assignment !== message.assignment);
          if (this.#running?.assign.assignment === message.assignment) this.#running = undefined;
          if (this.traits.returns) this.#after(this.#world.integer(1, 100), () => link.cut(0));
          break;
      }
      this.#work();
    });
  }

  #take({ bucket, version, form, value }: Extract<ToWorker, { type: 'weights' }>): void {
    const old = this.#next[bucket] ?? this.#weights[bucket];
    let fresh = value;
    if (form === 'difference') {
      // A difference to weights that were found wrong: the whole bucket is on its way.
      if (old === undefined && this.#spoiled.has(bucket)) return;
      must(old !== undefined && old.version === version - 1, `a difference to ${version} for version ${old?.version}`);
      fresh = (old.value + value) | 0;
    } else this.#spoiled.delete(bucket);
    if (version > this.#base && this.cluster.mutation !== 'overwrite-old-weights')
      this.#next[bucket] = { version, value: fresh };
    else {
      this.#weights[bucket] = { version, value: fresh };
      this.#next[bucket] = undefined;
      if (this.#chance(this.traits.spoilsWeights)) this.#foundWrong(bucket);
    }
  }

  get #stalls(): boolean {
    return this.traits.stalls !== 'no' && this.#doneWell >= this.traits.stallsAfter;
  }

  #stall({ assignment, microBatches }: Assign): void {
    const begun = sets.countOf(microBatches);
    if (this.traits.stalls === 'begins') this.#send({ type: 'progress', assignment, begun });
    if (this.traits.stalls === 'hands-back') this.#send({ type: 'handed-back', assignment, microBatches });
  }

  #foundWrong(bucket: number): void {
    this.#weights[bucket] = undefined;
    this.#next[bucket] = undefined;
    this.#spoiled.add(bucket);
    this.#send({ type: 'mismatch', bucket });
  }

  #commit(step: number): void {
    this.#base = Math.max(this.#base, step);
    this.#next.forEach((next, bucket) => {
      if (next === undefined || next.version > this.#base) return;
      this.#weights[bucket] = next;
      this.#next[bucket] = undefined;
    });
  }

  #handBack(assignment: number, asked: sets.IdSet): void {
    const task = [...this.#queue, this.#running].find((t) => t?.assign.assignment === assignment);
    const given = sets.emptySet(asked.length * 32);
    if (task !== undefined) {
      const rest = task.microBatches.slice(task.begun).filter((m) => sets.has(asked, m));
      for (const m of rest) sets.insert(given, m);
      task.microBatches = task.microBatches.filter((m) => !sets.has(given, m));
      if (task.microBatches.length === 0) this.#queue = this.#queue.filter((t) => t !== task);
    }
    this.#send({ type: 'handed-back', assignment, microBatches: given });
  }

  /** The version of all weights, if they are of one. */
  #hasVersion(version: number): boolean {
    return this.#weights.every((bucket) => bucket?.version === version);
  }

  #work(): void {
    if (this.#running !== undefined || this.#queue.length === 0) return;
    const [task] = this.#queue;
    const needed = task.assign.kind === 'step' ? task.assign.step - 1 : task.assign.step;
    if (this.#base > needed) {
      this.#queue.shift();
      this.#work();
      return;
    }
    const mutant = this.cluster.mutation === 'overwrite-old-weights' && this.#weights.every((w) => w !== undefined);
    if (!this.#hasVersion(needed) && !mutant) return;
    this.#queue.shift();
    this.#running = task;
    this.#step(task);
  }

  /** Begins the next micro-batch of a task, or sends what is complete. */
  #step(task: Task): void {
    if (this.#running !== task) return;
    const { assign } = task;
    if (task.begun === task.microBatches.length) {
      this.#upload(task);
      return;
    }
    const microBatch = task.microBatches[task.begun++];
    this.#send({ type: 'progress', assignment: assign.assignment, begun: task.begun });
    const hash = hashOf(this.#weights.map((w) => w?.value ?? 0));
    for (const b of sets.membersOf(assign.buckets))
      task.sums[b] =
        (task.sums[b] ?? 0) +
        (assign.kind === 'step'
          ? gradient(hash, assign.step, microBatch, b)
          : evaluationLoss(hash, assign.step, microBatch));
    this.#after(this.traits.microBatchMs * (0.5 + this.#world.random()), () => this.#step(task));
  }

  #upload(task: Task): void {
    const { assign } = task;
    const { assignment, step } = assign;
    const microBatches = sets.setOf(1024, task.microBatches);
    const poisoned = task.microBatches.filter(
      (m) =>
        (assign.kind === 'step' && this.cluster.poisoned.get(step) === m) || this.#world.chance(this.traits.refuses),
    );
    const buckets = sets.idsOf(assign.buckets);
    const refuseAfter =
      poisoned.length > 0 ? this.#world.integer(0, 1) * this.#world.integer(0, buckets.length - 1) : -1;
    const lies = assign.kind === 'step' && this.#world.chance(this.traits.lies);
    const sendNext = (i: number) => {
      if (this.#running !== task) return;
      if (i === refuseAfter) {
        this.#running = undefined;
        this.#send({ type: 'refused', assignment, microBatches: sets.setOf(1024, poisoned), reason: 'NaN' });
        return this.#work();
      }
      if (this.#stalls && this.traits.stalls === 'part' && i === 1 && buckets.length > 1) return;
      if (i === buckets.length) {
        this.#doneWell++;
        this.#running = undefined;
        return this.#work();
      }
      const bucket = buckets[(i + assignment) % buckets.length];
      const lie = lies && i >= Math.min(this.traits.liesFrom, buckets.length - 1) ? this.traits.lie : 0;
      this.#contribute({
        incarnation: this.link?.owner.options.config.incarnation ?? 0,
        step,
        assignment,
        bucket,
        microBatches,
        value: task.sums[bucket] + lie,
        corrupt: this.#chance(this.traits.corrupts),
        isFalse: lie !== 0,
      });
      this.#after(this.#world.random() * this.traits.latencyMs, () => sendNext(i + 1));
    };
    sendNext(0);
  }

  #contribute(contribution: Contribution): void {
    const send = (c: Contribution) => this.#send({ type: 'contribution', ...c });
    if (this.#chance(this.traits.impossible)) {
      const { step, assignment, value } = contribution;
      const forged: Partial<Contribution>[] = [
        { step: step + 1 },
        { assignment: assignment + 1000 },
        { bucket: this.cluster.shape.parameterBuckets + 1 },
        { bucket: -1 },
        { microBatches: sets.setOf(1024, [1023]), value: value + 1 },
        { incarnation: contribution.incarnation + 1 },
      ];
      send({ ...contribution, ...this.#world.pick(forged) });
    }
    send(contribution);
    this.#sent.push(contribution);
    if (this.#sent.length > 20) this.#sent.shift();
    if (this.#chance(this.traits.duplicates)) send(contribution);
    if (this.#chance(this.traits.replays)) send(this.#world.pick(this.#sent));
  }
}
