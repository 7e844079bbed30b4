import {
  OWNER,
  Round,
  type RoundAction,
  type RoundConfig,
  type RoundEvent,
  type StopReason,
  sets,
  type WorkerId,
} from '../../../cluster/round/round.js';
import type { Ledger } from './ledger.js';
import type { Link } from './link.js';
import { digestOf, evaluationLoss, gradient, hashOf, initialWeight, type Shape, updated, type World } from './world.js';

export class Violation extends Error {}

export function must(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Violation(what);
}

/** A run's state on disk. */
export interface Checkpoint {
  readonly version: number;
  readonly weights: Int32Array;
  readonly losses: readonly number[];
}

export function freshRun(shape: Shape): Checkpoint {
  const weights = Int32Array.from({ length: shape.parameterBuckets }, (_, b) => initialWeight(shape.seed, b));
  return { version: 0, weights, losses: [] };
}

/** Defects of the program itself that the simulator must find. */
export type Mutation = 'count-twice' | 'forget-one' | 'commit-early' | 'overwrite-old-weights';

export interface SimulatedContribution {
  readonly incarnation: number;
  readonly step: number;
  readonly assignment: number;
  readonly bucket: number;
  readonly microBatches: sets.IdSet;
  readonly value: number;
  /** The payload does not verify. */
  readonly corrupt: boolean;
  /** The value is not the sum of the micro-batches. */
  readonly isFalse: boolean;
}

export type FromWorker =
  | ({ readonly type: 'contribution' } & SimulatedContribution)
  | { readonly type: 'life' }
  | { readonly type: 'progress'; readonly assignment: number; readonly begun: number }
  | { readonly type: 'handed-back'; readonly assignment: number; readonly microBatches: sets.IdSet }
  | {
      readonly type: 'refused';
      readonly assignment: number;
      readonly microBatches: sets.IdSet;
      readonly reason: string;
    }
  | { readonly type: 'mismatch'; readonly bucket: number };

export type ToWorker =
  | Extract<RoundAction, { type: 'admit' | 'assign' | 'hand-back' | 'revoke' }>
  | { readonly type: 'commit'; readonly step: number }
  | {
      readonly type: 'weights';
      readonly bucket: number;
      readonly version: number;
      readonly form: 'whole' | 'difference';
      readonly value: number;
      /** The bucket's weights at that time. */
      readonly after: number;
    };

export interface OwnerOptions {
  readonly config: RoundConfig;
  readonly checkpointEvery: number;
  /** Time of a micro-batch on the owner's adapter, and when that adapter fails, if it does. */
  readonly ownerMs: number;
  readonly ownerFailsAtMs?: number;
  readonly poisoned: ReadonlyMap<number, number>;
  readonly ledger: Ledger;
  readonly mutation?: Mutation;
  /** A round that is broken on purpose, in place of the real one. */
  readonly roundClass?: typeof Round;
  /** Called with every action after its execution. */
  readonly onAction?: (action: RoundAction, owner: Owner) => void;
}

/** One start of the coordinator: the shell around `Round`, with integers for tensors. Checks every action. */
export class Owner {
  readonly round: Round;
  readonly links = new Map<WorkerId, Link>();
  up = true;
  stopped: StopReason | undefined;
  readonly notes: string[] = [];
  readonly assigned = new Map<WorkerId, number>();
  /** The largest number of contributions whose bytes were held at one time. */
  mostHeld = 0;
  #weights: Int32Array;
  #new: (number | undefined)[];
  #differences: { version: number; delta: number; after: number }[] = [];
  #sums: number[];
  #times: Uint8Array[];
  #norm = 0;
  /** The version of `#weights`. The round's own version rises before its last actions are executed. */
  #committed: number;
  #losses: number[];
  #job: 'step' | 'evaluate' | undefined;
  #jobCount = 0;
  #held = new Map<number, SimulatedContribution & { person: string }>();
  #nextContribution = 1;
  #wakeAt = Number.POSITIVE_INFINITY;
  /** Owner of each (bucket, micro-batch): live assignments, or -1 once it is in the sum or about to be. */
  readonly #places = new Map<number, number[]>();
  readonly #live = new Map<number, { worker: WorkerId; microBatches: sets.IdSet; buckets: sets.IdSet }>();
  /** Assignments of the owner's own adapter. */
  #computing: number | undefined;
  #ownerFailed = false;

  constructor(
    readonly world: World,
    readonly shape: Shape,
    readonly disk: { checkpoint: Checkpoint },
    readonly options: OwnerOptions,
  ) {
    const { version, weights, losses } = disk.checkpoint;
    this.round = new (options.roundClass ?? Round)({ ...options.config, version });
    this.#committed = version;
    this.#weights = weights.slice();
    this.#losses = [...losses];
    this.#new = new Array(shape.parameterBuckets).fill(undefined);
    this.#sums = new Array(shape.parameterBuckets + 1).fill(0);
    this.#times = this.#noTimes();
    this.#soon(() => this.#beginStep());
    const { ownerFailsAtMs } = options;
    if (options.config.ownerComputes && ownerFailsAtMs !== undefined)
      world.after(ownerFailsAtMs, () => {
        if (!this.up || this.stopped !== undefined) return;
        this.#ownerFailed = true;
        if (this.#computing !== undefined) this.#end(this.#computing);
        this.#computing = undefined;
        this.handle({ type: 'owner-unable', now: world.now });
      });
  }

  get done(): boolean {
    return this.#losses.length === this.shape.steps * (this.shape.evaluationMicroBatches > 0 ? 2 : 1);
  }

  get digest(): number {
    return digestOf(this.#weights, this.#losses);
  }

  get held(): number {
    return this.#held.size;
  }

  /** Stepped buckets of the current step. */
  get stepped(): number {
    return this.#new.filter((value) => value !== undefined).length;
  }

  crash(): void {
    this.up = false;
    for (const link of this.links.values()) link.cut(0);
  }

  #noTimes(): Uint8Array[] {
    const most = Math.max(this.shape.microBatches, this.shape.evaluationMicroBatches);
    return Array.from({ length: this.shape.parameterBuckets + 1 }, () => new Uint8Array(most));
  }

  /** Runs something later, unless the coordinator has ended by then. */
  #soon(run: () => void, most = 20): void {
    this.world.after(this.world.integer(0, most), () => {
      if (this.up && this.stopped === undefined) run();
    });
  }

  #beginStep(): void {
    if (this.round.version >= this.shape.steps) return;
    this.#job = 'step';
    this.#jobCount = this.shape.microBatches;
    this.options.ledger.jobBegins(this.#jobCount, this.links.size);
    this.handle({
      type: 'begin-step',
      now: this.world.now,
      step: this.round.version + 1,
      microBatches: this.#jobCount,
    });
  }

  #beginEvaluation(): void {
    this.#job = 'evaluate';
    this.#jobCount = this.shape.evaluationMicroBatches;
    this.options.ledger.jobBegins(this.#jobCount, this.links.size);
    this.handle({ type: 'begin-evaluation', now: this.world.now, microBatches: this.#jobCount });
  }

  joined(link: Link, bitClass: string): void {
    this.links.set(link.id, link);
    const { person } = link.worker;
    this.options.ledger.joins(link.id, person);
    this.handle({ type: 'worker-joined', now: this.world.now, worker: link.id, bitClass, person });
  }

  left(link: Link): void {
    if (!this.links.delete(link.id)) return;
    this.options.ledger.cause();
    this.#free(link.id);
    this.handle({ type: 'worker-left', now: this.world.now, worker: link.id, reason: 'connection lost' });
  }

  receive(link: Link, message: FromWorker): void {
    if (!this.links.has(link.id)) return;
    const { now } = this.world;
    if (message.type === 'contribution') {
      this.#received(link.id, link.worker.person, message);
      return;
    }
    if (message.type === 'refused') this.options.ledger.cause();
    if (message.type === 'handed-back') this.#handedBack(link.id, message.assignment, message.microBatches);
    this.handle({ ...message, now, worker: link.id });
  }

  #received(worker: WorkerId, person: string, message: SimulatedContribution): void {
    const contribution = this.#nextContribution++;
    this.#held.set(contribution, { ...message, person });
    this.mostHeld = Math.max(this.mostHeld, this.#held.size);
    const { incarnation, step, assignment, bucket, microBatches } = message;
    this.handle({
      type: 'contribution',
      now: this.world.now,
      worker,
      contribution,
      draw: this.world.random(),
      incarnation,
      step,
      assignment,
      bucket,
      microBatches,
    });
  }

  /** The owner's own adapter computes an assignment; weights do not change meanwhile. */
  #compute(action: Extract<RoundAction, { type: 'assign' }>): void {
    must(this.options.config.ownerComputes && !this.#ownerFailed, "the owner's adapter cannot compute");
    must(this.#computing === undefined, "the owner's adapter has two assignments");
    const { assignment, kind, step, buckets } = action;
    this.#computing = assignment;
    const microBatches = sets.idsOf(action.microBatches);
    const hash = hashOf(this.#weights);
    this.world.after(this.options.ownerMs * microBatches.length, () => {
      if (!this.up || this.stopped !== undefined || this.#computing !== assignment) return;
      const { now } = this.world;
      const poisoned = microBatches.filter((m) => kind === 'step' && this.options.poisoned.get(step) === m);
      if (poisoned.length > 0) {
        this.#computing = undefined;
        const refused = sets.setOf(1024, poisoned);
        this.handle({ type: 'refused', now, worker: OWNER, assignment, microBatches: refused, reason: 'NaN' });
        return;
      }
      const values = sets.idsOf(buckets);
      this.#computing = undefined;
      for (const bucket of values) {
        let value = 0;
        for (const m of microBatches)
          value += kind === 'step' ? gradient(hash, step, m, bucket) : evaluationLoss(hash, step, m);
        const { incarnation } = this.options.config;
        const set = sets.setOf(1024, microBatches);
        const sum = { incarnation, step, assignment, bucket, microBatches: set, value, corrupt: false, isFalse: false };
        this.#received(OWNER, 'the owner', sum);
      }
    });
  }

  handle(event: RoundEvent): void {
    if (!this.up) return;
    // This event ends the refused assignment, without an action.
    if (event.type === 'refused' && this.#live.get(event.assignment)?.worker === event.worker)
      this.#end(event.assignment);
    for (const action of this.#tamper(event, this.round.handle(event))) {
      this.#execute(action);
      this.options.ledger.told(action);
      this.options.onAction?.(action, this);
    }
    const wakeAt = this.round.wakeAt;
    if (wakeAt === undefined || wakeAt >= this.#wakeAt) return;
    this.#wakeAt = wakeAt;
    this.world.after(Math.max(1, wakeAt - this.world.now), () => {
      this.#wakeAt = Number.POSITIVE_INFINITY;
      if (this.up && this.stopped === undefined) this.handle({ type: 'tick', now: this.world.now });
    });
  }

  /** Applies the mutation: disables one of the program's safeguards. */
  #tamper(event: RoundEvent, actions: RoundAction[]): RoundAction[] {
    const { mutation } = this.options;
    if (event.type !== 'contribution') return actions;
    const { contribution, bucket } = event;
    const held = this.#held.get(contribution);
    const answer = actions.find((a) => 'contribution' in a && a.contribution === contribution);
    if (held === undefined || answer === undefined) return actions;
    // A stale contribution of the current step is added anyway.
    if (mutation === 'count-twice' && answer.type === 'release' && this.#job === 'step')
      if (held.step === this.#committed + 1 && !held.corrupt) this.#sums[bucket] += held.value;
    if (mutation === 'forget-one' && answer.type === 'add' && this.world.chance(0.05))
      this.#held.set(contribution, { ...held, value: 0 });
    return actions;
  }

  readonly #table: { readonly [T in RoundAction['type']]: (action: Extract<RoundAction, { type: T }>) => void } = {
    admit: (action) => this.links.get(action.worker)?.down(action),
    'hand-back': (action) => this.links.get(action.worker)?.down(action),
    assign: (action) => {
      this.#dealt(action);
      this.assigned.set(action.worker, (this.assigned.get(action.worker) ?? 0) + 1);
      if (action.worker === OWNER) this.#compute(action);
      this.links.get(action.worker)?.down(action);
    },
    revoke: (action) => {
      this.#end(action.assignment);
      if (this.#computing === action.assignment) this.#computing = undefined;
      this.links.get(action.worker)?.down(action);
    },
    close: ({ worker }) => {
      const link = this.links.get(worker);
      this.links.delete(worker);
      this.#free(worker);
      link?.cut(0);
    },
    send: (action) => this.#sendBucket(action),
    add: ({ contribution, bucket }) => this.#add(contribution, bucket),
    check: ({ contribution }) => this.#check(contribution),
    release: ({ contribution }) => must(this.#held.delete(contribution), 'released what was not held'),
    norm: () => {
      for (let b = 0; b <= this.shape.parameterBuckets; b++) this.#mustBeWhole(b);
      this.#soon(() => {
        this.#norm = hashOf(this.#sums.slice(0, this.shape.parameterBuckets));
        this.handle({ type: 'norm-known', now: this.world.now });
      });
    },
    update: ({ step, bucket }) => this.#update(step, bucket),
    commit: ({ step }) => this.#commit(step),
    evaluated: ({ finite }) => this.#evaluated(finite),
    stopped: ({ reason }) => {
      this.stopped = reason;
    },
    log: ({ note }) => {
      this.notes.push(note.note);
      if (note.note === 'fence' && note.reason === 'silent') must(this.links.size > 1, 'the only worker was fenced');
    },
  };

  #execute(action: RoundAction): void {
    (this.#table[action.type] as (action: RoundAction) => void)(action);
  }

  #add(contribution: number, bucket: number): void {
    const held = this.#held.get(contribution);
    must(held !== undefined && held.bucket === bucket, 'added what was not held');
    this.#take(held);
    if (held.isFalse) this.options.ledger.said(placeOf(held), held.person, `${held.step} ${held.assignment}`);
    const early = this.options.mutation === 'commit-early' && !held.corrupt && this.world.chance(0.2);
    if (early) this.#soon(() => this.handle({ type: 'added', now: this.world.now, contribution, ok: true }), 0);
    this.#soon(() => {
      this.#held.delete(contribution);
      const { now } = this.world;
      if (held.corrupt) {
        for (const m of sets.membersOf(held.microBatches)) this.#places.delete(bucket * 1024 + m);
        this.options.ledger.cause();
        return this.handle({ type: 'added', now, contribution, ok: false, reason: 'checksum' });
      }
      this.#sums[bucket] += held.value;
      if (held.isFalse && this.#job === 'step') this.options.ledger.used(placeOf(held), held.step);
      for (const m of sets.membersOf(held.microBatches))
        must(++this.#times[bucket][m] === 1, `micro-batch ${m} is in bucket ${bucket} twice`);
      if (!early) this.handle({ type: 'added', now, contribution, ok: true });
    });
  }

  #check(contribution: number): void {
    const held = this.#held.get(contribution);
    must(held !== undefined, 'checked what was not held');
    if (held.isFalse) this.options.ledger.said(placeOf(held), held.person, `${held.step} ${held.assignment}`);
    this.#soon(() => {
      const digest = held.corrupt ? undefined : `${held.value}`;
      this.handle({ type: 'checked', now: this.world.now, contribution, digest });
    });
  }

  #mustBeWhole(bucket: number): void {
    for (let m = 0; m < this.#jobCount; m++)
      must(this.#times[bucket][m] === 1, `bucket ${bucket} lacks micro-batch ${m}`);
  }

  #update(step: number, bucket: number): void {
    must(step === this.round.version + 1 && this.#job === 'step', `update of step ${step} at ${this.round.version}`);
    must(this.#new[bucket] === undefined, `bucket ${bucket} is updated twice`);
    this.#mustBeWhole(bucket);
    // Early weights would tell a worker that its work was used without an audit.
    if (this.options.config.audit > 0) for (let b = 0; b <= this.shape.parameterBuckets; b++) this.#mustBeWhole(b);
    this.#soon(() => {
      const old = this.#weights[bucket];
      const value = updated(old, this.#sums[bucket], this.#norm, step);
      this.#new[bucket] = value;
      this.#differences[bucket] = { version: step, delta: (value - old) | 0, after: value };
      if (this.options.mutation === 'overwrite-old-weights') this.#weights[bucket] = value;
      this.#sums[bucket] = 0;
      this.handle({ type: 'updated', now: this.world.now, bucket });
    });
  }

  #sendBucket({ worker, bucket, version, form }: Extract<RoundAction, { type: 'send' }>): void {
    const link = this.links.get(worker);
    must(link !== undefined, 'sends to a worker that is gone');
    const committed = this.#committed;
    must(version === committed || version === committed + 1, `sends version ${version} at ${committed}`);
    let [value, after] = [0, 0];
    if (form === 'difference') {
      must(this.#differences[bucket]?.version === version, `no difference to version ${version}`);
      ({ delta: value, after } = this.#differences[bucket]);
    } else {
      const known = version === committed ? this.#weights[bucket] : this.#new[bucket];
      must(known !== undefined, `bucket ${bucket} is not stepped`);
      value = known;
      after = known;
    }
    link.down({ type: 'weights', bucket, version, form, value, after });
    // A departed worker takes nothing, so its window stays full.
    this.#soon(() => {
      if (link.open) this.handle({ type: 'sent', now: this.world.now, worker });
    }, link.worker.traits.readMs);
  }

  #commit(step: number): void {
    must(step === this.#committed + 1, `commits ${step} after ${this.#committed}`);
    this.#mustBeWhole(this.shape.parameterBuckets);
    this.#new.forEach((value, b) => {
      must(value !== undefined, `commits without bucket ${b}`);
      this.#weights[b] = value;
    });
    this.#new.fill(undefined);
    this.#committed = step;
    this.#jobOver();
    for (const link of this.links.values()) link.down({ type: 'commit', step });
    if (step % this.options.checkpointEvery === 0 && this.shape.evaluationMicroBatches === 0) this.#save();
    this.#soon(() => (this.shape.evaluationMicroBatches > 0 ? this.#beginEvaluation() : this.#beginStep()));
  }

  #evaluated(finite: boolean): void {
    if (finite) this.#mustBeWhole(this.shape.parameterBuckets);
    else {
      this.options.ledger.evaluationsRefused++;
      this.#sums[this.shape.parameterBuckets] = 0;
    }
    this.#jobOver();
    if (this.#committed % this.options.checkpointEvery === 0) this.#save();
    this.#soon(() => this.#beginStep());
  }

  #jobOver(): void {
    this.#losses.push(this.#sums[this.shape.parameterBuckets]);
    this.#sums[this.shape.parameterBuckets] = 0;
    this.#norm = 0;
    this.#job = undefined;
    this.#times = this.#noTimes();
    this.#places.clear();
    this.#live.clear();
  }

  #save(): void {
    this.disk.checkpoint = { version: this.#committed, weights: this.#weights.slice(), losses: [...this.#losses] };
  }

  #dealt(action: Extract<RoundAction, { type: 'assign' }>): void {
    must(action.worker === OWNER || this.links.has(action.worker), 'deals to a worker that is gone');
    must(!sets.isEmpty(action.microBatches) && !sets.isEmpty(action.buckets), 'deals nothing');
    if (this.options.config.audit > 0) return;
    const twins = new Set<number>();
    this.#live.set(action.assignment, { ...action, microBatches: sets.copySet(action.microBatches) });
    for (const b of sets.membersOf(action.buckets))
      for (const m of sets.membersOf(action.microBatches)) {
        const having = this.#places.get(b * 1024 + m) ?? [];
        for (const id of having) twins.add(id);
        this.#places.set(b * 1024 + m, [...having, action.assignment]);
      }
    must(twins.size <= 1, `work of assignment ${action.assignment} is dealt to more than two`);
    for (const id of twins) {
      const other = this.#live.get(id);
      must(other !== undefined, `what assignment ${action.assignment} is to do is inside already`);
      must(sets.equalSets(other.microBatches, action.microBatches), 'two assignments have a part in common');
    }
  }

  #take(held: SimulatedContribution): void {
    for (const m of sets.membersOf(held.microBatches)) this.#places.set(held.bucket * 1024 + m, [-1]);
  }

  #handedBack(worker: WorkerId, assignment: number, microBatches: sets.IdSet): void {
    const live = this.#live.get(assignment);
    if (live?.worker !== worker) return;
    sets.removeAll(live.microBatches, microBatches);
    this.#leave(assignment, (m) => sets.has(microBatches, m));
  }

  #end(assignment: number): void {
    this.#live.delete(assignment);
    this.#leave(assignment, () => true);
  }

  #leave(assignment: number, which: (microBatch: number) => boolean): void {
    for (const [place, ids] of this.#places)
      if (ids.includes(assignment) && which(place % 1024)) {
        const others = ids.filter((id) => id !== assignment);
        if (others.length > 0) this.#places.set(place, others);
        else this.#places.delete(place);
      }
  }

  #free(worker: WorkerId): void {
    for (const [id, live] of this.#live) if (live.worker === worker) this.#end(id);
  }
}

const placeOf = ({ step, bucket, microBatches, value }: SimulatedContribution): string =>
  `${step} ${bucket} ${sets.idsOf(microBatches)} ${value}`;
