import type { WorkerId } from './events.js';
import { Speed } from './load-balance.js';
import type { Person } from './person.js';
import type { Policy } from './policy.js';
import { Delivery } from './weights.js';
import type { Assignment } from './work.js';

/** Good jobs in a row that make one offence good. */
const HEALING_JOBS = 4;

/** An admitted worker. */
export class Member {
  readonly delivery: Delivery;
  readonly speed: Speed;
  /** In the order in which it does them. */
  live: Assignment[] = [];
  /** While it is unproven: what it has done, of which it is not decided whether it can be used. */
  readonly awaiting = new Set<Assignment>();
  lastLife: number;
  /** When it was fenced; undefined while it is not. */
  fencedAt: number | undefined;
  /** Until when it stays fenced. */
  barredUntil = Number.NEGATIVE_INFINITY;
  /** An assignment of it was used whole since it came, or was fenced: it gets a full share. */
  proven = false;
  /** It is dealt its next assignment though it should wait, since nobody else can have it. */
  forced = false;
  /** Offences that it has not made good since. */
  level = 0;
  /** Jobs to which it contributed something. */
  goodJobs = 0;
  /** It has refused micro-batches of this job. */
  refuses = false;
  wrongBuckets = 0;
  /** Micro-batches it has delivered in this job, and the time it had any to do. */
  done = 0;
  busyMs = 0;
  #hadWork = false;
  #busySince = 0;
  #goodInRow = 0;

  constructor(
    readonly id: WorkerId,
    readonly person: Person,
    readonly bitClass: string,
    parameterBuckets: number,
    policy: Policy,
    now: number,
  ) {
    this.delivery = new Delivery(parameterBuckets, policy.sendWindow);
    this.speed = new Speed(policy.speedWeight);
    this.lastLife = now;
  }

  get ready(): boolean {
    return this.delivery.ready;
  }

  get isIdle(): boolean {
    return this.live.length === 0 && this.awaiting.size === 0;
  }

  get aliveSinceFence(): boolean {
    return this.fencedAt !== undefined && this.lastLife > this.fencedAt;
  }

  /** The silence counts from here. */
  get quietSince(): number {
    return Math.max(this.lastLife, this.#busySince);
  }

  get assigned(): number {
    return this.live.reduce((n, a) => n + a.count, 0);
  }

  /** Work it has left, in micro-batches. */
  get left(): number {
    return this.live.reduce((n, a) => n + a.count - a.begun + (a.begun > 0 ? 0.5 : 0), 0);
  }

  /** What one micro-batch takes it, as far as earlier jobs or this one have shown. */
  get microBatchMs(): number | undefined {
    return this.speed.microBatchMs ?? (this.done > 0 && this.live.length === 0 ? this.busyMs / this.done : undefined);
  }

  take(assignment: Assignment, now: number): void {
    if (this.live.length === 0) this.#busySince = now;
    this.live.push(assignment);
    this.#hadWork = true;
    this.live[0].startedAt ??= now;
    this.forced = false;
  }

  drop(assignment: Assignment, now: number): void {
    this.live = this.live.filter((a) => a !== assignment);
    if (this.live.length === 0) this.busyMs += now - this.#busySince;
    else this.live[0].startedAt ??= now;
  }

  /** Deals it nothing until `barredUntil`, and then one micro-batch first. */
  fence(now: number, barredUntil: number): void {
    this.fencedAt = now;
    this.barredUntil = barredUntil;
    this.proven = false;
    this.level++;
    this.#goodInRow = 0;
  }

  /** Learns from work that was not done in time. Before its assignments are dropped. */
  wasSlow(now: number): void {
    const busyMs = this.busyMs + (this.live.length > 0 ? now - this.#busySince : 0);
    this.speed.slower(busyMs / Math.max(1, this.done));
  }

  /** What the job has shown of it. */
  jobEnded(kind: 'step' | 'evaluate'): void {
    if (kind === 'step') {
      if (this.done > 0) this.speed.sample(this.done, this.busyMs);
      else if (!this.#hadWork && this.ready && this.fencedAt === undefined) this.speed.rest();
      if (this.done > 0) this.goodJobs++;
      if (this.done > 0 && this.fencedAt === undefined && ++this.#goodInRow % HEALING_JOBS === 0)
        this.level = Math.max(0, this.level - 1);
    }
    this.#hadWork = false;
    this.awaiting.clear();
    this.refuses = false;
    this.wrongBuckets = 0;
    this.done = 0;
    this.busyMs = 0;
  }
}
