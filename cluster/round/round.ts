import { FOUND_WRONG } from './auditor.js';
import { Dealer } from './dealer.js';
import {
  type CloseCode,
  type ContributionId,
  DEFAULT_POLICY,
  OWNER,
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
} from './events.js';
import { Job } from './job.js';
import { Member } from './member.js';
import { People, type Person } from './person.js';
import type { IdSet } from './sets.js';
import * as sets from './sets.js';
import type { Table } from './table.js';
import type { Assignment } from './work.js';

export * from './events.js';
export * as sets from './sets.js';

type Event<T extends RoundEvent['type']> = Extract<RoundEvent, { type: T }>;

/** What keeps a job from beginning. */
type Obstacle = 'workers' | 'min-workers';

/** A contribution whose bytes the shell holds for the answer to `add` or `check`. */
interface Held {
  readonly job: Job;
  readonly bucket: number;
  readonly microBatches: IdSet;
  readonly assignment: Assignment;
  /** Whose contribution this is, where the owner's adapter has not confirmed it. */
  readonly unconfirmed: readonly { readonly worker: WorkerId; readonly person: Person }[];
}

/**
 * The cluster's logic: events in, actions out, and nothing else. It knows ids, never bytes; no clock, no socket, no
 * chance. The shell feeds it every event in the order in which it happened (those of one connection in the order of its
 * frames) and executes the actions in their order before the next event.
 *
 *                 begin-step        every bucket's set is full         every bucket is stepped
 *     idle ----------------> working -------------------------> updating -----------------> commit, idle
 *       |  begin-evaluation      |   (with clipping: norm first;          ^
 *       |                        |    without, and without audits, a      |
 *       v                        |    bucket is updated as soon as its    |
 *     working --> evaluated,     |    own set is full) -------------------+
 *                 idle           +--> stopped: a refusal that is believed, an audit that nobody decides, or asked
 *
 *     a contribution:   contribution --> add ----> added       (its bytes may go after `added`)
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
  readonly #people: People;
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
  /** The job in hand has begun: enough workers are there. */
  #working = false;
  #anyStep = false;
  /** Buckets of the step in hand whose update was ordered, and those that are stepped. */
  #ordered: IdSet;
  #stepped: IdSet;
  #steppedCount = 0;
  #stopped = false;
  #waiting: Obstacle | undefined;
  #movedAt = 0;
  /** The time of the last event. */
  #now = 0;
  #ownerAble: boolean;
  #beganAt = 0;
  #usualStepMs: number | undefined;
  /** After how much waiting the awaited are named; undefined before the wait begins. */
  #awaitedMs: number | undefined;
  readonly #handlers: { readonly [T in RoundEvent['type']]: (event: Event<T>) => void } = {
    'worker-joined': (event) => this.#joined(event),
    'worker-left': ({ worker, reason, now }) => this.#left(worker, reason, now),
    life: () => {},
    'owner-unable': ({ now }) => this.#ownerUnable(now),
    progress: (event) => this.#progress(event),
    'handed-back': (event) => this.#handedBack(event),
    contribution: (event) => this.#contribution(event),
    added: (event) => this.#added(event),
    checked: (event) => this.#checked(event),
    refused: (event) => this.#refused(event),
    sent: (event) => this.#sent(event),
    mismatch: (event) => this.#mismatch(event),
    'norm-known': () => {
      for (let b = 0; b < this.config.parameterBuckets; b++) this.#update(b);
    },
    updated: (event) => this.#updated(event),
    'begin-step': (event) => this.#begin(event),
    'begin-evaluation': (event) => this.#begin(event),
    stop: () => this.#halt({ why: 'asked' }),
    tick: ({ now }) => {
      if (this.#job && this.#working) this.#dealer.lateness.tick(this.#job, now);
    },
  };

  constructor(readonly config: RoundConfig) {
    this.#policy = { ...DEFAULT_POLICY, ...config.policy };
    this.#version = config.version;
    this.#ordered = sets.emptySet(config.parameterBuckets);
    this.#stepped = sets.emptySet(config.parameterBuckets);
    this.#people = new People(this.#policy, config.firstSteps);
    this.#ownerAble = config.ownerComputes;
    const round = this;
    const table: Table = {
      config,
      policy: this.#policy,
      members: this.#members,
      get ownerAble() {
        return round.#ownerAble;
      },
      get isAtWork() {
        return round.#isAtWork;
      },
      get usualStepMs() {
        return round.#usualStepMs;
      },
      emit: (action) => this.#emit(action),
      note: (note) => this.#note(note),
      halt: (reason) => this.#halt(reason),
      close: (worker, code, reason, now) => this.#close(worker, code, reason, now),
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
    if (this.#job === undefined || !this.#working || this.#isAtWork) return undefined;
    const { lateness, manners } = this.#dealer;
    const awaited = this.#dealer.idle ? Number.POSITIVE_INFINITY : this.#movedAt + this.#patienceMs;
    const at = Math.min(lateness.wakeAt(this.#now), manners.wakeAt(this.#now), awaited);
    return at > this.#now && at < Number.POSITIVE_INFINITY ? at : undefined;
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
    this.#now = event.now;
    (this.#handlers[event.type] as (event: RoundEvent) => void)(event);
    this.#settle(event.now);
    return this.#actions;
  }

  #emit(action: RoundAction): void {
    if (!this.#stopped || action.type === 'release') this.#actions.push(action);
  }

  #note(note: RoundNote): void {
    if (note.note === 'fence') this.#counters.fenced++;
    if (note.note === 'late') this.#counters.late++;
    if (note.note === 'refuted') this.#counters.refuted++;
    this.#emit({ type: 'log', step: this.#job?.step ?? this.#version, note });
  }

  #halt(reason: StopReason): void {
    this.#emit({ type: 'stopped', step: this.#job?.step ?? this.#version, reason });
    this.#stopped = true;
  }

  /** It is the coordinator that has something to do. */
  get #isAtWork(): boolean {
    return this.#adding.size > 0 || this.#checking.size > 0 || this.#job?.allComplete === true;
  }

  /** How long the job waits for its workers before it names them. */
  get #patienceMs(): number {
    const { awaitedMs, awaitedSteps } = this.#policy;
    return this.#awaitedMs ?? Math.max(awaitedMs, awaitedSteps * (this.#usualStepMs ?? 0));
  }

  #moved(now: number): void {
    this.#movedAt = now;
    this.#awaitedMs = undefined;
  }

  /** Everything that may follow from any event. */
  #settle(now: number): void {
    if (this.#stopped) return;
    const job = this.#job;
    if (job !== undefined && !this.#working && this.#obstacle(job) === undefined) {
      this.#working = true;
      this.#anyStep ||= job.kind === 'step';
      this.#beganAt = now;
      this.#moved(now);
      this.#dealer.begin(job);
    }
    if (job !== undefined && this.#working) {
      if (!job.finite) {
        if (this.#adding.size === 0) this.#evaluated(job, now);
      } else {
        this.#dealer.claims.punish(job, now);
        if (!job.allComplete) this.#dealer.settle(job, now);
      }
    }
    this.#sendWeights();
    this.#sayWhatIsAwaited(now);
  }

  #obstacle(job: Job): Obstacle | undefined {
    if (this.#anyStep || job.kind !== 'step') return undefined;
    const ready = [...this.#members.values()].filter((m) => m.ready).length;
    if (ready >= this.config.minWorkers) return undefined;
    return ready === 0 ? 'workers' : 'min-workers';
  }

  #sayWhatIsAwaited(now: number): void {
    const job = this.#job;
    let waiting: Obstacle | undefined;
    if (job !== undefined && !this.#working) waiting = this.#obstacle(job);
    else if (job !== undefined && !this.#isAtWork && this.#dealer.idle && this.#dealer.hasOpenWork) waiting = 'workers';
    if (job !== undefined && this.#working && !this.#isAtWork && !this.#dealer.idle) {
      const waitedMs = now - this.#movedAt;
      if (waitedMs >= this.#patienceMs) {
        const workers = [...new Set([...this.#dealer.live.values()].map((a) => a.worker))];
        this.#awaitedMs = 2 * waitedMs;
        this.#note({ note: 'awaited', workers, waitedMs });
      }
    }
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
    if (worker === OWNER) throw new RangeError("worker 0 is the owner's adapter");
    if (this.#members.has(worker)) throw new RangeError(`worker ${worker} has joined already`);
    const person = this.#people.get(event.person, now);
    // Before it can make the run mixed.
    if (this.#dealer.auditor.isShutOut(person, bitClass)) {
      this.#note({ note: 'refuse', worker, reason: FOUND_WRONG });
      this.#emit({ type: 'close', worker, code: 'LT_CLUSTER_AUDIT', reason: FOUND_WRONG });
      return;
    }
    if (bitClass !== this.config.ownerBitClass) {
      if (this.config.exact) {
        const reason = `its bit class ${bitClass} is not the owner's, ${this.config.ownerBitClass}`;
        this.#note({ note: 'refuse', worker, reason });
        this.#emit({ type: 'close', worker, code: 'LT_CLUSTER_BIT_CLASS', reason });
        return;
      }
      this.#note({ note: 'mixed', worker, bitClass });
    }
    const { parameterBuckets } = this.config;
    const member = new Member(worker, person, bitClass, parameterBuckets, this.#policy, now);
    person.connections++;
    member.delivery.committed(this.#version);
    this.#members.set(worker, member);
    this.#note({ note: 'join', worker, bitClass });
    this.#emit({ type: 'admit', worker, version: this.#version });
  }

  #left(worker: WorkerId, reason: string, now: number): void {
    const member = this.#members.get(worker);
    if (member === undefined) return;
    this.#members.delete(worker);
    member.person.connections--;
    this.#note({ note: 'leave', worker, reason });
    const job = this.#job;
    if (job === undefined) return;
    if (member.live.length > 0) this.#dealer.manners.left(job, member, now);
    for (const a of member.live) {
      this.#dealer.drop(a, now);
      this.#dealer.reopen(job, a);
    }
    this.#heedRefusals(job, now);
  }

  /** The owner's adapter does nothing more; what it had goes to others. */
  #ownerUnable(now: number): void {
    this.#ownerAble = false;
    this.#dealer.auditor.shutOut(now);
    const job = this.#job;
    if (job === undefined) return;
    for (const a of [...this.#dealer.live.values()]) {
      if (a.worker !== OWNER) continue;
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
    if (!this.#members.has(worker) && worker !== OWNER) return undefined;
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
    if (event.begun > a.begun) this.#moved(event.now);
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
    if (count > 0) this.#moved(now);
    this.#counters.handedBack += count;
    const member = this.#members.get(worker);
    const isAnswer = a.asked !== undefined && sets.isSubset(microBatches, a.asked);
    if (count === 0 || isAnswer) this.#dealer.handBack(job, a, microBatches, now);
    else if (member !== undefined) this.#dealer.fenceOff(job, member, 'it hands back what nobody asked for', now);
    else this.#ownerUnable(now);
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
    this.#moved(now);
    this.#dealer.auditor.draw(job, a, event.draw, now);
    this.#take(contribution, job, a, bucket);
    const member = this.#members.get(worker);
    if (a.remaining === 0) {
      if (member !== undefined) {
        member.done += a.count;
        if (a.undecided > 0 && !member.proven) member.awaiting.add(a);
      }
      this.#dealer.lateness.delivered(job, a, now);
      this.#dealer.drop(a, now);
    } else this.#dealer.lateness.delivered(job, a, now);
  }

  /** Answers a contribution that was dealt, and has come for the first time. */
  #take(contribution: ContributionId, job: Job, a: Assignment, bucket: number): void {
    const { worker, person, copyOf } = a;
    const trial = copyOf ?? a.trial;
    const unconfirmed = person === undefined ? [] : [{ worker, person }];
    const held: Held = { job, bucket, microBatches: sets.copySet(a.microBatches), assignment: a, unconfirmed };
    if (copyOf !== undefined && !copyOf.isOpen(bucket)) this.#emit({ type: 'release', contribution });
    else if (copyOf === undefined && this.#dealer.auditor.covers(a.microBatches, bucket))
      this.#stale(contribution, worker, 'inside already');
    else if (trial === undefined) this.#add(contribution, held);
    else if (!job.lacksAll(bucket, a.microBatches)) this.#stale(contribution, worker, 'inside already');
    else {
      if (copyOf === undefined) sets.insert(trial.buckets, bucket);
      a.undecided++;
      trial.checking++;
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
    const { job, bucket, microBatches, assignment } = held;
    if (!job.lacksAll(bucket, microBatches)) {
      this.#stale(contribution, assignment.worker, 'inside already');
      return;
    }
    job.claim(bucket, microBatches);
    this.#counters.accepted++;
    assignment.undecided++;
    this.#adding.set(contribution, held);
    this.#emit({ type: 'add', contribution, bucket });
    if (job.kind === 'step')
      for (const { worker, person } of held.unconfirmed) this.#dealer.auditor.unconfirmed(worker, person, job.step);
  }

  #added(event: Event<'added'>): void {
    const held = this.#adding.get(event.contribution);
    if (held === undefined) throw new RangeError(`contribution ${event.contribution} was not to be added`);
    this.#adding.delete(event.contribution);
    const { job, bucket, assignment } = held;
    this.#moved(event.now);
    this.#dealer.resolve(
      job,
      assignment,
      event.ok && assignment.copyOf === undefined && assignment.trial === undefined,
    );
    if (event.ok) {
      if (job.added(bucket)) this.#completed(job, bucket, event.now);
      return;
    }
    job.unclaim(bucket, held.microBatches);
    this.#counters.accepted--;
    this.#dealer.open(job, held.microBatches, sets.setOf(job.totalBuckets, [bucket]));
    this.#spoiled(job, assignment, event.reason, event.now);
  }

  /** A payload is not what its header says: whoever sent it is gone. */
  #spoiled(job: Job, { worker, microBatches }: Assignment, reason: string | undefined, now: number): void {
    this.#counters.spoiled++;
    const member = this.#members.get(worker);
    if (member !== undefined) this.#dealer.manners.left(job, member, now, microBatches);
    if (worker === OWNER) this.#ownerUnable(now);
    this.#close(worker, 'LT_CLUSTER_PAYLOAD', reason ?? 'its payload is not what its header says', now);
  }

  #checked(event: Event<'checked'>): void {
    const { contribution, digest, now } = event;
    const held = this.#checking.get(contribution);
    const trial = held?.assignment.copyOf ?? held?.assignment.trial;
    if (held === undefined || trial === undefined)
      throw new RangeError(`contribution ${contribution} was not to be checked`);
    const { job, bucket, assignment } = held;
    this.#checking.delete(contribution);
    this.#moved(now);
    trial.checking--;
    const current = job === this.#job && trial.isOpen(bucket);
    if (current && digest !== undefined) {
      this.#vote(contribution, held, digest, now);
      return;
    }
    this.#emit({ type: 'release', contribution });
    this.#dealer.resolve(job, assignment, false);
    if (digest !== undefined) return;
    if (current && assignment.copyOf === undefined) this.#dealer.auditor.drop(job, trial, bucket, false);
    this.#spoiled(job, assignment, undefined, now);
  }

  #vote(contribution: ContributionId, held: Held, digest: string, now: number): void {
    const { job, bucket, assignment } = held;
    const { worker, person } = assignment;
    const trial = assignment.copyOf ?? assignment.trial;
    const result = trial?.vote(bucket, { worker, person, assignment, digest });
    if (result?.verdict !== 'decided') {
      this.#emit({ type: 'release', contribution });
      if (result?.disagreement) this.#note({ note: 'audit', worker, bucket, reason: 'two workers differ' });
      return;
    }
    const { agreeing, wrong } = result;
    const byOwner = agreeing.some((vote) => vote.person === undefined);
    this.#counters.audited++;
    for (const vote of agreeing) this.#dealer.resolve(job, vote.assignment, true);
    for (const vote of wrong) this.#dealer.resolve(job, vote.assignment, false);
    const unconfirmed = agreeing.flatMap((v) =>
      byOwner || v.person === undefined ? [] : [{ ...v, person: v.person }],
    );
    this.#add(contribution, { ...held, unconfirmed });
    const by = byOwner ? "the owner's adapter has" : 'two others agree on';
    for (const vote of wrong)
      this.#dealer.auditor.foundWrong(vote, bucket, `${by} another sum of bucket ${bucket}`, now);
  }

  #refused(event: Event<'refused'>): void {
    const { worker, microBatches, reason, now } = event;
    const [job, a] = this.#assignmentOf(event) ?? [];
    if (job === undefined || a === undefined) return;
    if (sets.isEmpty(microBatches) || !sets.isSubset(microBatches, a.microBatches)) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', 'it refuses what it was not dealt', now);
      return;
    }
    const { person, twin } = a;
    if (person === undefined) {
      const [microBatch] = sets.membersOf(microBatches);
      this.#dealer.drop(a, now);
      this.#believe(job, microBatch, [OWNER], reason, now);
      return;
    }
    this.#counters.refused++;
    this.#note({ note: 'refuse', worker, reason });
    const member = this.#members.get(worker);
    if (member !== undefined) member.refuses = true;
    job.notDone(person, microBatches);
    this.#dealer.claims.made(job, microBatches, worker, person, reason);
    this.#dealer.drop(a, now);
    a.copyOf?.refusedBy(person);
    this.#dealer.reopen(job, a);
    // What both had is checked before it is used.
    if (twin !== undefined) {
      this.#dealer.revoke(twin, now);
      this.#dealer.reopen(job, twin);
    }
    this.#heedRefusals(job, now);
  }

  #heedRefusals(job: Job, now: number): void {
    const claim = this.#dealer.claims.believed(job);
    if (claim === undefined) return;
    const [microBatch] = sets.membersOf(claim.microBatches);
    const workers = [...new Set(claim.by.map((one) => one.worker))];
    this.#believe(job, microBatch, workers, claim.reason, now);
  }

  /** A micro-batch is refused for good. */
  #believe(job: Job, microBatch: number, workers: readonly WorkerId[], reason: string, now: number): void {
    if (job.kind === 'step') {
      this.#halt({ why: 'refused', microBatch, workers, reason });
      return;
    }
    job.finite = false;
    this.#dealer.end(now);
  }

  #begin(event: Event<'begin-step' | 'begin-evaluation'>): void {
    const { microBatches } = event;
    if (this.#job !== undefined) throw new RangeError('a job is in hand');
    if (!Number.isInteger(microBatches) || microBatches < 1 || microBatches > sets.MAX_MICRO_BATCHES)
      throw new RangeError(`${microBatches} micro-batches`);
    const total = this.config.parameterBuckets + 1;
    if (event.type === 'begin-evaluation') {
      this.#job = new Job('evaluate', this.#version, microBatches, total, total - 1);
      return;
    }
    if (event.step !== this.#version + 1) throw new RangeError(`step ${event.step} after version ${this.#version}`);
    this.#job = new Job('step', event.step, microBatches, total, 0);
  }

  #completed(job: Job, bucket: number, now: number): void {
    if (job.kind === 'evaluate') {
      if (job.allComplete) this.#evaluated(job, now);
      return;
    }
    const { clips, audit, parameterBuckets } = this.config;
    // Weights that come early would tell a worker that its bucket was used without an audit.
    if (!clips && audit > 0 && job.allComplete) for (let b = 0; b < parameterBuckets; b++) this.#update(b);
    if (!clips && audit === 0 && bucket < parameterBuckets) this.#update(bucket);
    if (clips && job.allComplete) this.#emit({ type: 'norm' });
    this.#commitIfDone(now);
  }

  #update(bucket: number): void {
    if (this.#job?.kind !== 'step') throw new RangeError('no step is in hand');
    sets.insert(this.#ordered, bucket);
    this.#emit({ type: 'update', step: this.#job.step, bucket });
  }

  #updated(event: Event<'updated'>): void {
    const { bucket, now } = event;
    if (!sets.has(this.#ordered, bucket) || sets.has(this.#stepped, bucket))
      throw new RangeError(`bucket ${bucket} was not to be updated`);
    sets.insert(this.#stepped, bucket);
    this.#steppedCount++;
    this.#moved(now);
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
    const tookMs = now - this.#beganAt;
    this.#usualStepMs = this.#usualStepMs === undefined ? tookMs : 0.7 * this.#usualStepMs + 0.3 * tookMs;
    this.#jobEnded(job, now);
  }

  #evaluated(job: Job, now: number): void {
    this.#emit({ type: 'evaluated', finite: job.finite });
    this.#jobEnded(job, now);
  }

  #jobEnded(job: Job, now: number): void {
    this.#dealer.claims.punish(job, now);
    this.#dealer.end(now);
    for (const member of this.#members.values()) member.jobEnded(job.kind);
    this.#job = undefined;
    this.#working = false;
  }

  #sent(event: Event<'sent'>): void {
    this.#members.get(event.worker)?.delivery.sent();
  }

  #mismatch(event: Event<'mismatch'>): void {
    const { worker, bucket, now } = event;
    const member = this.#members.get(worker);
    if (member === undefined) return;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= this.config.parameterBuckets) {
      this.#close(worker, 'LT_CLUSTER_IMPOSSIBLE', `there is no bucket ${bucket}`, now);
      return;
    }
    this.#counters.wrongBuckets++;
    member.wrongBuckets++;
    const byPerson = member.person.wrongBucket(now);
    if (member.wrongBuckets > this.#policy.wrongBuckets || byPerson > 4 * this.#policy.wrongBuckets)
      this.#close(worker, 'LT_CLUSTER_WEIGHTS', `its weights of bucket ${bucket} stay wrong`, now);
    else member.delivery.forget(bucket, this.#version);
  }
}
