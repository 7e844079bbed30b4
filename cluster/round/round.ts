import type { RoundAction } from './actions.js';
import { Contributions } from './contributions.js';
import { Dealer } from './dealer.js';
import type { EventOf, RoundConfig, RoundCounters, RoundEvent, Version, WorkerView } from './events.js';
import { Job } from './job.js';
import { Roster } from './roster.js';
import { MAX_MICRO_BATCHES } from './sets.js';
import { RoundState } from './state.js';
import { Updates } from './updates.js';
import { Waiting } from './waiting.js';

export * from './actions.js';
export * from './events.js';
export * from './notes.js';
export * from './policy.js';
export * as sets from './sets.js';

/**
 * The cluster's logic: events in, actions out, and nothing else. It knows ids, never bytes. It has no clock, no socket
 * and no randomness. The shell feeds it every event in order (events of one connection in the order of its frames). It
 * executes the returned actions in order before the next event.
 *
 *                 begin-step        every bucket's set is full         every bucket is stepped
 *     idle ----------------> working -------------------------> updating -----------------> commit, idle
 *       |  begin-evaluation      |   (with clipping: norm first;          ^
 *       |                        |    without, and without audits, a      |
 *       v                        |    bucket is updated as soon as its    |
 *     working --> evaluated,     |    own set is full) -------------------+
 *                 idle           +--> stopped: a refusal that is believed, an audit that nobody decides, or asked
 *
 * There is one sum for each bucket, and one job at a time. No `add` of the next job comes before the bucket's `update`
 * of this job (for the loss: `commit` or `evaluated`).
 *
 *     RoundState     what the parts share
 *     Roster         workers come and go
 *     Dealer         who does what, with parts of its own
 *     Contributions  from what has arrived to complete sums
 *     Updates        from complete sums to new weights at every worker
 *     Waiting        what a job waits for
 */
export class Round {
  readonly #state: RoundState;
  readonly #dealer: Dealer;
  readonly #roster: Roster;
  readonly #contributions: Contributions;
  readonly #updates: Updates;
  readonly #waiting: Waiting;
  #beganAt = 0;
  /** Time of the last event. */
  #now = 0;
  readonly #handlers: { readonly [T in RoundEvent['type']]: (event: EventOf<T>) => void } = {
    'worker-joined': (event) => this.#roster.joined(event),
    'worker-left': ({ worker, reason, now }) => this.#roster.left(worker, reason, now),
    life: () => {},
    'owner-unable': ({ now }) => this.#roster.ownerUnable(now),
    progress: (event) => this.#progress(event),
    'handed-back': (event) => this.#dealer.handBacks.handedBack(event, (now) => this.#roster.ownerUnable(now)),
    contribution: (event) => this.#contributions.arrived(event),
    added: (event) => this.#contributions.added(event),
    checked: (event) => this.#contributions.checked(event),
    refused: (event) => this.#dealer.claims.refused(event),
    sent: (event) => this.#updates.sent(event),
    mismatch: (event) => this.#updates.mismatch(event),
    'norm-known': () => this.#updates.orderAll(),
    updated: (event) => {
      this.#updates.updated(event);
      this.#commitIfDone(event.now);
    },
    'begin-step': (event) => this.#begin(event),
    'begin-evaluation': (event) => this.#begin(event),
    stop: () => this.#state.halt({ why: 'asked' }),
    tick: ({ now }) => {
      if (this.#state.job && this.#state.isWorking) this.#dealer.lateness.tick(this.#state.job, now);
    },
  };

  constructor(readonly config: RoundConfig) {
    this.#state = new RoundState(config, (...why) => this.#roster.close(...why));
    this.#dealer = new Dealer(this.#state);
    this.#roster = new Roster(this.#state, this.#dealer);
    this.#contributions = new Contributions(this.#state, this.#dealer, this.#roster, (...what) =>
      this.#completed(...what),
    );
    this.#updates = new Updates(this.#state);
    this.#waiting = new Waiting(this.#state, this.#dealer);
  }

  /** Updates committed so far. */
  get version(): Version {
    return this.#state.version;
  }

  /** The current step needs no worker any more. */
  get completesStep(): boolean {
    const { job } = this.#state;
    return job?.kind === 'step' && job.allComplete;
  }

  get counters(): Readonly<RoundCounters> {
    return this.#state.counters;
  }

  /** The time at which the next `tick` may have an effect; undefined if none can. */
  get wakeAt(): number | undefined {
    const { job, isWorking, isAtWork } = this.#state;
    if (job === undefined || !isWorking || isAtWork) return undefined;
    const { lateness, eligibility } = this.#dealer;
    const at = Math.min(lateness.wakeAt(this.#now), eligibility.wakeAt(this.#now), this.#waiting.wakeAt);
    return at > this.#now && at < Number.POSITIVE_INFINITY ? at : undefined;
  }

  workers(): WorkerView[] {
    return [...this.#state.members.values()].map((m) => ({
      worker: m.id,
      bitClass: m.bitClass,
      microBatchMs: m.speed.microBatchMs,
      assigned: m.assigned,
      fenced: m.fencedAt !== undefined,
      ready: m.ready,
    }));
  }

  /**
   * Handles one event and returns the actions for the shell, in order. Throws RangeError if the shell breaks the
   * contract.
   */
  handle(event: RoundEvent): RoundAction[] {
    if (this.#state.isStopped) {
      if (event.type === 'contribution') this.#state.emit({ type: 'release', contribution: event.contribution });
      return this.#state.takeActions();
    }
    if ('worker' in event) {
      const member = this.#state.members.get(event.worker);
      if (member !== undefined) member.lastLife = event.now;
    }
    this.#now = event.now;
    (this.#handlers[event.type] as (event: RoundEvent) => void)(event);
    if (!this.#state.isStopped) this.#settle(event.now);
    return this.#state.takeActions();
  }

  /** Does everything that any event may make possible. */
  #settle(now: number): void {
    const { job } = this.#state;
    if (job !== undefined && !this.#state.isWorking && this.#waiting.mayBegin(job)) this.#startWork(job, now);
    if (job !== undefined && this.#state.isWorking) {
      if (!job.finite) {
        if (this.#state.adding.size === 0) this.#evaluated(job, now);
      } else {
        this.#dealer.claims.punish(job, now);
        if (!job.allComplete) this.#dealer.settle(job, now);
      }
    }
    this.#updates.send();
    this.#waiting.say(now);
  }

  #begin(event: EventOf<'begin-step' | 'begin-evaluation'>): void {
    const { microBatches } = event;
    const { job, version, config } = this.#state;
    if (job !== undefined) throw new RangeError('a job is in hand');
    if (!Number.isInteger(microBatches) || microBatches < 1 || microBatches > MAX_MICRO_BATCHES)
      throw new RangeError(`${microBatches} micro-batches`);
    const total = config.parameterBuckets + 1;
    if (event.type === 'begin-evaluation') {
      this.#state.job = new Job('evaluate', version, microBatches, total, total - 1);
      return;
    }
    if (event.step !== version + 1) throw new RangeError(`step ${event.step} after version ${version}`);
    this.#state.job = new Job('step', event.step, microBatches, total, 0);
  }

  #startWork(job: Job, now: number): void {
    this.#state.isWorking = true;
    this.#waiting.began(job);
    this.#beganAt = now;
    this.#state.moved(now);
    this.#dealer.work.begin(job);
  }

  #progress(event: EventOf<'progress'>): void {
    const { begun, worker, now } = event;
    const { a } = this.#dealer.work.assignmentOf(event) ?? {};
    if (a === undefined) return;
    if (!Number.isInteger(begun) || begun < 0 || begun > a.count) {
      this.#state.close(worker, 'LT_CLUSTER_IMPOSSIBLE', `${begun} of ${a.count} micro-batches begun`, now);
      return;
    }
    if (begun > a.begun) this.#state.moved(now);
    a.begun = Math.max(a.begun, begun);
  }

  /** The sum of a bucket is complete. */
  #completed(job: Job, bucket: number, now: number): void {
    if (job.kind === 'evaluate') {
      if (job.allComplete) this.#evaluated(job, now);
      return;
    }
    const { clips, audit, parameterBuckets } = this.config;
    // With audits, all updates wait: early weights would tell a worker that its bucket was not audited.
    if (!clips && audit > 0 && job.allComplete) this.#updates.orderAll();
    if (!clips && audit === 0 && bucket < parameterBuckets) this.#updates.order(bucket);
    if (clips && job.allComplete) this.#state.emit({ type: 'norm' });
    this.#commitIfDone(now);
  }

  #commitIfDone(now: number): void {
    const { job, usualStepMs } = this.#state;
    if (job?.allComplete !== true || !this.#updates.isComplete) return;
    this.#updates.commit(job.step);
    const tookMs = now - this.#beganAt;
    this.#state.usualStepMs = usualStepMs === undefined ? tookMs : 0.7 * usualStepMs + 0.3 * tookMs;
    this.#jobEnded(job, now);
  }

  #evaluated(job: Job, now: number): void {
    this.#state.emit({ type: 'evaluated', finite: job.finite });
    this.#jobEnded(job, now);
  }

  #jobEnded(job: Job, now: number): void {
    this.#dealer.claims.punish(job, now);
    this.#dealer.work.end(now);
    for (const member of this.#state.members.values()) member.jobEnded(job.kind);
    this.#state.job = undefined;
    this.#state.isWorking = false;
  }
}
