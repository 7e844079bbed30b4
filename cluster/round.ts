import type { Trial } from './round/audit.js';
import { Dealer, type Table } from './round/dealer.js';
import {
  type CloseCode,
  type ContributionId,
  DEFAULT_POLICY,
  type Policy,
  type RoundAction,
  type RoundConfig,
  type RoundCounters,
  type RoundEvent,
  type RoundNote,
  type StopReason,
  type Version,
  type WorkerId,
  type WorkerView,
} from './round/events.js';
import { Job } from './round/job.js';
import { Member } from './round/member.js';
import type { IdSet } from './round/sets.js';
import * as sets from './round/sets.js';
import type { Assignment } from './round/work.js';

export * from './round/events.js';
export * as sets from './round/sets.js';

export const MAX_MICRO_BATCHES = 1024;

type Event<T extends RoundEvent['type']> = Extract<RoundEvent, { type: T }>;

/** What keeps a job from beginning. */
type Obstacle = 'resume' | 'workers' | 'min-workers';

/** A contribution whose bytes the shell holds for the answer to `add` or `check`. */
interface Held {
  readonly job: Job;
  readonly worker: WorkerId;
  readonly bucket: number;
  readonly microBatches: IdSet;
  readonly trial?: Trial;
}

/**
 * The cluster's logic: events in, actions out, and nothing else. It knows ids, never bytes; no clock, no socket, no
 * chance. The shell feeds it every event in the order in which it happened (those of one connection in the order of its
 * frames) and executes the actions in their order before the next event.
 *
 *                 begin-step        every bucket's set is full         every bucket is stepped
 *     idle ----------------> working -------------------------> updating -----------------> commit, idle
 *       |  begin-evaluation      |   (with clipping: norm first;          ^
 *       |                        |    without, a bucket is updated as     |
 *       v                        |    soon as its own set is full) -------+
 *     working --> evaluated,     +--> stopped: refused twice, an audit that nobody decides, or asked
 *                 idle
 *
 *     a contribution:   contribution --> add ----> summed      (its bytes may go after `summed`)
 *                                    --> check --> checked --> add | release    (audited)
 *                                    --> release                                (stale; the bytes may go)
 *     a bucket's weights:   send --> sent
 *
 * There is one sum for each bucket, and one job at a time: `add` names a bucket, and no `add` of the next job comes before
 * the bucket's `update` (for the loss: `commit` or `evaluated`) of this one.
 */
export class Round {
  readonly #policy: Policy;
  readonly #members = new Map<WorkerId, Member>();
  readonly #dealer: Dealer;
  readonly #adding = new Map<ContributionId, Held>();
  readonly #checking = new Map<ContributionId, Held>();
  readonly #counters: RoundCounters = {
    accepted: 0,
    stale: 0,
    impossible: 0,
    spoiled: 0,
    refused: 0,
    fenced: 0,
    handedBack: 0,
    audited: 0,
    wrongBuckets: 0,
    late: 0,
    refuted: 0,
  };
  #actions: RoundAction[] = [];
  #version: Version;
  #job: Job | undefined;
  /** The job in hand has begun: not paused, enough workers. */
  #working = false;
  #anyStep = false;
  /** Buckets of the step in hand whose update was ordered, and those that are stepped. */
  #ordered: IdSet;
  #stepped: IdSet;
  #steppedCount = 0;
  #paused = false;
  #stopping = false;
  #stopped = false;
  #waiting: Obstacle | undefined;
  #movedAt = 0;
  /** What the last refusal said. */
  #refusal = '';
  readonly #handlers: { readonly [T in RoundEvent['type']]: (event: Event<T>) => void } = {
    'worker-joined': (event) => this.#joined(event),
    'worker-left': ({ worker, reason, now }) => this.#left(worker, reason, now),
    life: () => {},
    'owner-unable': () => {},
    progress: (event) => this.#progress(event),
    'handed-back': (event) => this.#handedBack(event),
    contribution: (event) => this.#contribution(event),
    summed: (event) => this.#summed(event),
    checked: (event) => this.#checked(event),
    refused: (event) => this.#refused(event),
    sent: (event) => this.#sent(event),
    'bucket-wrong': (event) => this.#bucketWrong(event),
    'norm-known': () => {
      for (let b = 0; b < this.config.parameterBuckets; b++) this.#update(b);
    },
    'bucket-stepped': (event) => this.#bucketStepped(event),
    'begin-step': (event) => this.#begin(event),
    'begin-evaluation': (event) => this.#begin(event),
    pause: () => {
      this.#paused = true;
    },
    resume: () => {
      this.#paused = false;
    },
    stop: (event) => this.#stop(event),
    tick: ({ now }) => {
      if (this.#job && this.#working) this.#dealer.fence(this.#job, now, this.#stillSince());
    },
  };

  constructor(readonly config: RoundConfig) {
    this.#policy = { ...DEFAULT_POLICY, ...config.policy };
    this.#version = config.version;
    this.#ordered = sets.emptySet(config.parameterBuckets);
    this.#stepped = sets.emptySet(config.parameterBuckets);
    const table: Table = {
      config,
      policy: this.#policy,
      members: this.#members,
      emit: (action) => this.#emit(action),
      note: (note) => this.#note(note),
      halt: (reason) => this.#halt(reason),
    };
    this.#dealer = new Dealer(table);
  }

  /** Updates committed so far. */
  get version(): Version {
    return this.#version;
  }

  /** The step in hand needs no worker any more. */
  get completesStep(): boolean {
    return this.#job?.kind === 'step' && this.#job.allComplete;
  }

  get counters(): Readonly<RoundCounters> {
    return this.#counters;
  }

  /** The time at which a `tick` is next of use; undefined while nothing waits for time. */
  get wakeAt(): number | undefined {
    return this.#job && this.#working ? this.#dealer.wakeAt(this.#stillSince()) : undefined;
  }

  workers(): WorkerView[] {
    return [...this.#members.values()].map((m) => ({
      worker: m.id,
      bitClass: m.bitClass,
      microBatchMs: m.speed.microBatchMs,
      share: m.share,
      fenced: m.fencedAt !== undefined,
      ready: m.ready,
    }));
  }

  /** Takes one event and returns what the shell must do, in this order. Throws RangeError for a misuse by the shell. */
  handle(event: RoundEvent): RoundAction[] {
    this.#actions = [];
    if (this.#stopped) {
      if (event.type === 'contribution') this.#emit({ type: 'release', contribution: event.contribution });
      return this.#actions;
    }
    if ('worker' in event) {
      const member = this.#members.get(event.worker);
      if (member !== undefined) member.lastLife = event.now;
    }
    (this.#handlers[event.type] as (event: RoundEvent) => void)(event);
    this.#settle(event.now);
    return this.#actions;
  }

  #emit(action: RoundAction): void {
    if (!this.#stopped || action.type === 'release') this.#actions.push(action);
  }

  #note(note: RoundNote): void {
    if (note.note === 'fence') this.#counters.fenced++;
    this.#emit({ type: 'log', step: this.#job?.step ?? this.#version, note });
  }

  #halt(reason: StopReason): void {
    this.#emit({ type: 'stopped', step: this.#job?.step ?? this.#version, reason });
    this.#stopped = true;
  }

  /** Since when nothing has moved; undefined while it is the coordinator that has something to do. */
  #stillSince(): number | undefined {
    const atWork = this.#adding.size > 0 || this.#checking.size > 0 || this.#job?.allComplete === true;
    return atWork ? undefined : this.#movedAt;
  }

  /** Everything that may follow from any event. */
  #settle(now: number): void {
    if (this.#stopped) return;
    const job = this.#job;
    if (job !== undefined && !this.#working && this.#obstacle(job) === undefined) {
      this.#working = true;
      this.#anyStep ||= job.kind === 'step';
      this.#movedAt = now;
      this.#dealer.begin(job);
    }
    if (job !== undefined && this.#working) {
      if (!job.finite) {
        if (this.#adding.size === 0) this.#evaluated(job, now);
      } else if (!job.allComplete) this.#dealer.settle(job, now);
    }
    this.#sendWeights();
    this.#sayWhatIsAwaited();
  }

  #obstacle(job: Job): Obstacle | undefined {
    if (this.#paused) return 'resume';
    if (this.#anyStep || job.kind !== 'step') return undefined;
    const ready = [...this.#members.values()].filter((m) => m.ready).length;
    if (ready >= this.config.minWorkers) return undefined;
    return ready === 0 ? 'workers' : 'min-workers';
  }

  #sayWhatIsAwaited(): void {
    const job = this.#job;
    let waiting: Obstacle | undefined;
    if (job !== undefined && !this.#working) waiting = this.#obstacle(job);
    else if (job !== undefined && this.#dealer.hasOpenWork && this.#dealer.idle) waiting = 'workers';
    if (waiting === this.#waiting) return;
    this.#waiting = waiting;
    this.#note(waiting === undefined ? { note: 'going-on' } : { note: 'waiting', for: waiting });
  }

  #sendWeights(): void {
    const weights = {
      committed: this.#version,
      stepped: this.#stepped,
      ordered: this.#ordered,
      first: this.config.version,
      complete: this.#job?.kind === 'step' && this.#job.allComplete,
    };
    for (const { id, delivery } of this.#members.values())
      for (let next = delivery.next(weights); next !== undefined; next = delivery.next(weights))
        this.#emit({ type: 'send', worker: id, ...next });
  }

  #joined(event: Event<'worker-joined'>): void {
    const { worker, bitClass, now } = event;
    if (this.#members.has(worker)) throw new RangeError(`worker ${worker} has joined already`);
    if (bitClass !== this.config.ownerBitClass) {
      if (this.config.exact) {
        const reason = `its bit class ${bitClass} is not the owner's, ${this.config.ownerBitClass}`;
        this.#note({ note: 'refuse', worker, reason });
        this.#emit({ type: 'close', worker, code: 'LT_CLUSTER_BIT_CLASS', reason });
        return;
      }
      this.#note({ note: 'mixed', worker, bitClass });
    }
    const member = new Member(worker, bitClass, this.config.parameterBuckets, this.#policy, now, event.microBatchMs);
    member.delivery.committed(this.#version);
    this.#members.set(worker, member);
    this.#note({ note: 'join', worker, bitClass });
    this.#emit({ type: 'admit', worker, version: this.#version });
  }

  #left(worker: WorkerId, reason: string, now: number): void {
    const member = this.#members.get(worker);
    if (member === undefined) return;
    this.#members.delete(worker);
    this.#note({ note: 'leave', worker, reason });
    const job = this.#job;
    if (job === undefined) return;
    for (const a of member.live) {
      this.#dealer.drop(a, now);
      this.#dealer.reopen(job, a);
    }
    this.#heedRefusals(job, now);
  }

  #close(worker: WorkerId, code: CloseCode, reason: string, now: number): void {
    if (!this.#members.has(worker)) return;
    if (code === 'LT_CLUSTER_IMPOSSIBLE') this.#counters.impossible++;
    this.#note({ note: 'refuse', worker, reason });
    this.#emit({ type: 'close', worker, code, reason });
    this.#left(worker, reason, now);
  }

  /**
   * The live assignment that a worker speaks of, with the job it is of. Undefined when it is not live any more (which an
   * honest worker cannot know yet) and when it never was its own: then the connection is closed.
   */
  #assignmentOf(event: Event<'progress' | 'handed-back' | 'refused' | 'contribution'>): [Job, Assignment] | undefined {
    const { worker, assignment: id, now } = event;
    if (!this.#members.has(worker)) return undefined;
    const a = this.#dealer.live.get(id);
    if (
      !Number.isInteger(id) ||
      id < 1 ||
      id >= this.#dealer.nextAssignment ||
      (a !== undefined && a.worker !== worker)
    ) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', `assignment ${id} was never its own`, now);
      return undefined;
    }
    return a !== undefined && this.#job !== undefined ? [this.#job, a] : undefined;
  }

  #progress(event: Event<'progress'>): void {
    const [, a] = this.#assignmentOf(event) ?? [];
    if (a === undefined) return;
    if (!Number.isInteger(event.begun) || event.begun < 0 || event.begun > a.count) {
      this.#close(a.worker, 'LT_CLUSTER_IMPOSSIBLE', `${event.begun} of ${a.count} micro-batches begun`, event.now);
      return;
    }
    if (event.begun > a.begun) this.#movedAt = event.now;
    a.begun = Math.max(a.begun, event.begun);
  }

  #handedBack(event: Event<'handed-back'>): void {
    const { worker, microBatches, now } = event;
    const [job, a] = this.#assignmentOf(event) ?? [];
    if (job === undefined || a === undefined) return;
    const count = sets.countOf(microBatches);
    if (!sets.isSubset(microBatches, a.microBatches) || (count > 0 && (a.fixed || a.count - count < a.begun))) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', `handed back what it had not, or had begun`, now);
      return;
    }
    if (count > 0) this.#movedAt = now;
    this.#counters.handedBack += count;
    if (a.trial !== undefined && count > 0) {
      // A copy for an audit is computed as it is or not at all.
      this.#dealer.revoke(a, now);
      this.#dealer.reopen(job, a);
    } else this.#dealer.handBack(job, a, microBatches, now);
  }

  #contribution(event: Event<'contribution'>): void {
    const { contribution, worker, bucket, microBatches, now } = event;
    const isOfNow = event.incarnation === this.config.incarnation && event.step === this.#job?.step;
    const impossible = this.#impossible(event);
    if (impossible !== undefined) this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', impossible, now);
    const [job, a] = isOfNow && impossible === undefined ? (this.#assignmentOf(event) ?? []) : [];
    if (job === undefined || a === undefined) {
      this.#stale(contribution, worker, 'its assignment is not live');
      return;
    }
    if (!sets.has(a.buckets, bucket) || !sets.equalSets(microBatches, a.microBatches)) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', `a contribution that assignment ${a.id} does not have`, now);
      this.#stale(contribution, worker, 'it was never dealt');
      return;
    }
    if (sets.has(a.delivered, bucket)) {
      this.#stale(contribution, worker, 'a repetition');
      return;
    }
    a.fixed = true;
    a.begun = a.count;
    sets.insert(a.delivered, bucket);
    a.remaining--;
    this.#movedAt = now;
    const member = this.#members.get(worker);
    if (a.remaining === 0) {
      if (member !== undefined) member.done += a.count;
      this.#dealer.drop(a, now);
    }
    const held: Held = { job, worker, bucket, microBatches: sets.copySet(a.microBatches), trial: a.trial };
    if (a.trial === undefined || sets.has(a.trial.waived, bucket)) this.#add(contribution, held);
    else if (sets.has(a.trial.decided, bucket)) this.#emit({ type: 'release', contribution });
    else {
      a.trial.arrive(bucket, worker);
      this.#checking.set(contribution, held);
      this.#emit({ type: 'check', contribution });
    }
  }

  /** Why nobody honest sends this; undefined for what is right or merely stale. */
  #impossible(event: Event<'contribution'>): string | undefined {
    const { incarnation, step, bucket } = event;
    if (incarnation > this.config.incarnation) return `incarnation ${incarnation} is not yet`;
    // What was dealt by an earlier incarnation is stale, whatever it says.
    if (incarnation < this.config.incarnation) return undefined;
    if (step > (this.#job?.step ?? this.#version)) return `step ${step} is not yet`;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket > this.config.parameterBuckets)
      return `there is no bucket ${bucket}`;
    return undefined;
  }

  #stale(contribution: ContributionId, worker: WorkerId, reason: string): void {
    this.#counters.stale++;
    this.#emit({ type: 'release', contribution });
    this.#note({ note: 'stale', worker, reason });
  }

  /** Puts a contribution into its bucket, unless one of its micro-batches is inside: whole or not at all. */
  #add(contribution: ContributionId, held: Held): void {
    const { job, bucket, microBatches } = held;
    if (!job.lacksAll(bucket, microBatches)) {
      this.#stale(contribution, held.worker, 'inside already');
      return;
    }
    job.claim(bucket, microBatches);
    this.#counters.accepted++;
    this.#adding.set(contribution, held);
    this.#emit({ type: 'add', contribution, bucket });
  }

  #summed(event: Event<'summed'>): void {
    const held = this.#adding.get(event.contribution);
    if (held === undefined) throw new RangeError(`contribution ${event.contribution} was not to be added`);
    this.#adding.delete(event.contribution);
    const { job, bucket, worker } = held;
    this.#movedAt = event.now;
    if (event.ok) {
      if (job.added(bucket)) this.#completed(job, bucket, event.now);
      return;
    }
    job.unclaim(bucket, held.microBatches);
    this.#counters.accepted--;
    this.#counters.spoiled++;
    this.#dealer.reopenBucket(job, held.microBatches, bucket);
    this.#close(worker, 'LT_CLUSTER_PAYLOAD', event.reason ?? 'its payload is not what its header says', event.now);
  }

  #checked(event: Event<'checked'>): void {
    const { contribution, digest, now } = event;
    const held = this.#checking.get(contribution);
    if (held?.trial === undefined) throw new RangeError(`contribution ${contribution} was not to be checked`);
    const { job, trial, bucket, worker } = held;
    this.#checking.delete(contribution);
    this.#movedAt = now;
    trial.digested(bucket);
    const current = job === this.#job && !sets.has(trial.decided, bucket);
    if (digest === undefined) {
      this.#counters.spoiled++;
      this.#emit({ type: 'release', contribution });
      if (current) this.#dealer.reopenCopy(job, trial, bucket);
      this.#close(worker, 'LT_CLUSTER_PAYLOAD', event.reason ?? 'its payload is not what its header says', now);
    } else if (!current) this.#emit({ type: 'release', contribution });
    else if (sets.has(trial.waived, bucket)) this.#add(contribution, held);
    else this.#vote(contribution, held, trial, digest, now);
  }

  #vote(contribution: ContributionId, held: Held, trial: Trial, digest: string, now: number): void {
    const { bucket, worker } = held;
    const result = trial.vote(bucket, { worker, digest });
    if (result.verdict !== 'agreed') {
      this.#emit({ type: 'release', contribution });
      if (result.verdict === 'hopeless') this.#halt({ why: 'audit', bucket, workers: result.workers });
      else if (result.disagreement) this.#note({ note: 'audit', worker, bucket, reason: 'two workers differ' });
      return;
    }
    this.#counters.audited++;
    this.#add(contribution, held);
    for (const wrong of result.wrong) {
      const reason = `two others agree on another sum of bucket ${bucket}`;
      this.#note({ note: 'audit', worker: wrong, bucket, reason });
      this.#close(wrong, 'LT_CLUSTER_AUDIT', reason, now);
    }
  }

  #refused(event: Event<'refused'>): void {
    const { worker, microBatches, reason, now } = event;
    const [job, a] = this.#assignmentOf(event) ?? [];
    if (job === undefined || a === undefined) return;
    if (sets.isEmpty(microBatches) || !sets.isSubset(microBatches, a.microBatches)) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', 'it refuses what it was not dealt', now);
      return;
    }
    this.#counters.refused++;
    this.#note({ note: 'refuse', worker, reason });
    for (const m of sets.membersOf(microBatches)) job.strikes.set(m, [...(job.strikes.get(m) ?? []), worker]);
    this.#refusal = reason;
    this.#dealer.drop(a, now);
    this.#dealer.reopen(job, a, microBatches);
    this.#heedRefusals(job, now);
  }

  /** A micro-batch that two workers have refused, or the only one twice, is refused for good. */
  #heedRefusals(job: Job, now: number): void {
    for (const [microBatch, strikes] of job.strikes) {
      const workers = [...new Set(strikes)];
      const alone = this.#members.size === 1 && this.#members.has(workers[0]);
      if (workers.length < 2 && !(strikes.length >= 2 && alone)) continue;
      if (job.kind === 'step') this.#halt({ why: 'refused', microBatch, workers, reason: this.#refusal });
      else {
        job.finite = false;
        this.#dealer.end(now);
      }
      return;
    }
  }

  #begin(event: Event<'begin-step' | 'begin-evaluation'>): void {
    const { microBatches } = event;
    if (this.#job !== undefined) throw new RangeError('a job is in hand');
    if (!Number.isInteger(microBatches) || microBatches < 1 || microBatches > MAX_MICRO_BATCHES)
      throw new RangeError(`${microBatches} micro-batches`);
    const total = this.config.parameterBuckets + 1;
    if (event.type === 'begin-evaluation') {
      this.#job = new Job('evaluate', this.#version, event.evaluation, microBatches, total, total - 1);
      return;
    }
    if (event.step !== this.#version + 1) throw new RangeError(`step ${event.step} after version ${this.#version}`);
    this.#job = new Job('step', event.step, undefined, microBatches, total, 0);
  }

  #stop({ when }: Event<'stop'>): void {
    if (when === 'after-job' && this.#working) this.#stopping = true;
    else this.#halt({ why: 'asked', abandoned: this.#working && this.#job?.kind === 'step' });
  }

  #completed(job: Job, bucket: number, now: number): void {
    if (job.kind === 'evaluate') {
      if (job.allComplete) this.#evaluated(job, now);
      return;
    }
    if (!this.config.clips && bucket < this.config.parameterBuckets) this.#update(bucket);
    if (this.config.clips && job.allComplete) this.#emit({ type: 'norm', step: job.step });
    this.#commitIfDone(now);
  }

  #update(bucket: number): void {
    if (this.#job?.kind !== 'step') throw new RangeError('no step is in hand');
    sets.insert(this.#ordered, bucket);
    this.#emit({ type: 'update', step: this.#job.step, bucket });
  }

  #bucketStepped(event: Event<'bucket-stepped'>): void {
    const { bucket, now } = event;
    if (!sets.has(this.#ordered, bucket) || sets.has(this.#stepped, bucket))
      throw new RangeError(`bucket ${bucket} was not to be updated`);
    sets.insert(this.#stepped, bucket);
    this.#steppedCount++;
    this.#movedAt = now;
    for (const { delivery } of this.#members.values()) delivery.stir();
    this.#commitIfDone(now);
  }

  #commitIfDone(now: number): void {
    const job = this.#job;
    if (job?.allComplete !== true || this.#steppedCount < this.config.parameterBuckets) return;
    this.#emit({ type: 'commit', step: job.step });
    this.#version = job.step;
    this.#ordered = sets.emptySet(this.config.parameterBuckets);
    this.#stepped = sets.emptySet(this.config.parameterBuckets);
    this.#steppedCount = 0;
    for (const { delivery } of this.#members.values()) delivery.committed(this.#version);
    this.#jobEnded(job, now);
  }

  #evaluated(job: Job, now: number): void {
    const { evaluation = 0, step, finite } = job;
    this.#emit({ type: 'evaluated', evaluation, step, finite });
    this.#jobEnded(job, now);
  }

  #jobEnded(job: Job, now: number): void {
    this.#dealer.end(now);
    for (const member of this.#members.values()) member.jobEnded(job.kind);
    this.#job = undefined;
    this.#working = false;
    if (this.#stopping) this.#halt({ why: 'asked', abandoned: false });
  }

  #sent(event: Event<'sent'>): void {
    this.#members.get(event.worker)?.delivery.sent();
    this.#movedAt = event.now;
  }

  #bucketWrong(event: Event<'bucket-wrong'>): void {
    const { worker, bucket, now } = event;
    const member = this.#members.get(worker);
    if (member === undefined) return;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= this.config.parameterBuckets) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', `there is no bucket ${bucket}`, now);
      return;
    }
    this.#counters.wrongBuckets++;
    member.wrongBuckets++;
    if (member.wrongBuckets > this.#policy.wrongBuckets)
      this.#close(worker, 'LT_CLUSTER_WEIGHTS', `its weights of bucket ${bucket} stay wrong`, now);
    else member.delivery.forget(bucket, this.#version);
  }
}
