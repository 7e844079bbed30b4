import { Speed } from '../assignment.js';
import type { Policy, WorkerId } from './events.js';
import { Delivery } from './weights.js';
import type { Assignment } from './work.js';

/** An admitted worker. */
export class Member {
  readonly delivery: Delivery;
  readonly speed: Speed;
  /** In the order in which it does them. */
  live: Assignment[] = [];
  lastLife: number;
  /** When it was fenced; undefined while it is not. */
  fencedAt: number | undefined;
  /** Fences that it has not made good since. */
  fences = 0;
  wrongBuckets = 0;
  /** Micro-batches it has delivered in this job, and the time it had any to do. */
  done = 0;
  busyMs = 0;
  #busySince = 0;

  constructor(
    readonly id: WorkerId,
    readonly bitClass: string,
    parameterBuckets: number,
    policy: Policy,
    now: number,
    microBatchMs: number | undefined,
  ) {
    this.delivery = new Delivery(parameterBuckets, policy.sendWindow);
    this.speed = new Speed(policy.speedWeight, microBatchMs);
    this.lastLife = now;
  }

  get ready(): boolean {
    return this.delivery.ready;
  }

  /** Can be dealt work now. */
  get able(): boolean {
    return this.ready && this.fencedAt === undefined;
  }

  get aliveSinceFence(): boolean {
    return this.fencedAt !== undefined && this.lastLife > this.fencedAt;
  }

  /** The silence counts from here. */
  get quietSince(): number {
    return Math.max(this.lastLife, this.#busySince);
  }

  get share(): number {
    return this.live.reduce((n, a) => n + a.count, 0);
  }

  /** Work it has left, in micro-batches. */
  get left(): number {
    return this.live.reduce((n, a) => n + a.count - a.begun + (a.begun > 0 ? 0.5 : 0), 0);
  }

  take(assignment: Assignment, now: number): void {
    if (this.live.length === 0) this.#busySince = now;
    this.live.push(assignment);
  }

  drop(assignment: Assignment, now: number): void {
    this.live = this.live.filter((a) => a !== assignment);
    if (this.live.length === 0) this.busyMs += now - this.#busySince;
  }

  fence(now: number): void {
    this.fencedAt = now;
    this.fences++;
    const each = (this.busyMs + now - this.#busySince) / Math.max(1, this.done);
    this.speed.slower(each);
  }

  /** What the job has shown of its speed. */
  jobEnded(kind: 'step' | 'evaluate'): void {
    if (kind === 'step') {
      if (this.done > 0) this.speed.sample(this.done, this.busyMs);
      else if (this.able) this.speed.rest();
      if (this.done > 0 && this.fencedAt === undefined) this.fences = Math.max(0, this.fences - 1);
    }
    this.fencedAt = undefined;
    this.wrongBuckets = 0;
    this.done = 0;
    this.busyMs = 0;
  }
}
