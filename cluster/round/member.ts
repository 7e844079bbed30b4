import type { WorkerId } from './events.js';
import { Speed } from './load-balance.js';
import type { Person } from './person.js';
import type { Policy } from './policy.js';
import { Delivery } from './weights.js';
import type { Assignment } from './work.js';

/** Good jobs in a row that cancel one offence. */
const HEALING_JOBS = 4;

/** An admitted worker. */
export class Member {
  readonly delivery: Delivery;
  readonly speed: Speed;
  /** In the order of execution. */
  live: Assignment[] = [];
  /** While it is unproven: completed assignments that may or may not be used. */
  readonly awaiting = new Set<Assignment>();
  lastLife: number;
  /** When it was fenced; undefined while it is not. */
  fencedAt: number | undefined;
  /** Time until which it stays fenced. */
  barredUntil = Number.NEGATIVE_INFINITY;
  /** All of an assignment was used since it joined, or was fenced: it is dealt work by its speed. */
  proven = false;
  /** It is dealt its next assignment although it should wait, because nobody else can take it. */
  forced = false;
  /** Offences that good jobs have not cancelled yet. */
  level = 0;
  /** Steps to which it contributed. */
  goodJobs = 0;
  /** It has refused micro-batches of this job. */
  refuses = false;
  wrongBuckets = 0;
  /** Micro-batches it has delivered in this job, and the time during which it had work. */
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

  /** The start of its silence. */
  get quietSince(): number {
    return Math.max(this.lastLife, this.#busySince);
  }

  get assigned(): number {
    return this.live.reduce((n, a) => n + a.count, 0);
  }

  /** Remaining work in micro-batches; the one in progress counts half. */
  get left(): number {
    return this.live.reduce((n, a) => n + a.count - a.begun + (a.begun > 0 ? 0.5 : 0), 0);
  }

  /** Milliseconds of one micro-batch, measured in earlier jobs or in this one. */
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

  /** Fences it until `barredUntil`; afterwards it must prove itself again. */
  fence(now: number, barredUntil: number): void {
    this.fencedAt = now;
    this.barredUntil = barredUntil;
    this.proven = false;
    this.level++;
    this.#goodInRow = 0;
  }

  /** Records that work was not done in time. Call before its assignments are dropped. */
  wasSlow(now: number): void {
    const busyMs = this.busyMs + (this.live.length > 0 ? now - this.#busySince : 0);
    this.speed.slower(busyMs / Math.max(1, this.done));
  }

  /** Updates speed and offences at the end of a job. */
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
