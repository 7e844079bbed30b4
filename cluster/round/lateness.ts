import type { Dealer } from './dealer.js';
import type { WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import { type Assignment, undelivered } from './work.js';

/** Work that takes this many times the late limit is given up if the run can do without it. */
const HOPELESS = 2;

/** No worker is assumed to be more than this many times slower than the mean. */
const MOST_TIMES_SLOWER = 20;

interface Known {
  /** Undefined while nobody's speed is known. */
  readonly each: ReadonlyMap<WorkerId, number> | undefined;
  readonly meanMs: number;
}

/** The shortest time between two checks outside of ticks. */
const LOOK_MS = 20;

/** Milliseconds of a micro-batch, assumed while nobody's speed is known. */
const UNKNOWN_MS = 1000;

/**
 * Finds late work and acts on it. Life is not work: only contributions prove that a worker makes progress.
 *
 *     dealt -> late -> an idle worker is dealt the same (a twin) -> the first contribution of each bucket counts
 *                                                                -> an assignment with nothing left that counts is revoked
 *           -> silent -> fenced
 */
export class Lateness {
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** Marks late work, and fences silent workers whose work others can take. */
  tick(job: Job, now: number): void {
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    this.look(now);
    this.#fence(job, now);
  }

  /** Marks late work. Not at every event: there are thousands a second. */
  look(now: number): void {
    if (now < this.#lookedAt + LOOK_MS) return;
    this.#lookedAt = now;
    let known: Known | undefined;
    for (const a of this.dealer.work.live.values()) {
      if (a.isLate || a.startedAt === undefined || now < a.startedAt + this.state.policy.lateFloorMs) continue;
      known ??= this.#known();
      const lateAt = this.#lateAt(a, known);
      if (now < lateAt) continue;
      // Later assignments in the worker's queue will be late too.
      for (const one of this.state.members.get(a.worker)?.live ?? []) {
        one.isLate = true;
        one.hopelessAt = a.startedAt + HOPELESS * (lateAt - a.startedAt);
      }
    }
  }

  /** Estimated milliseconds of an assignment. */
  #estimateMs(a: Assignment, known: Known): number {
    const each = Math.min(known.each?.get(a.worker) ?? UNKNOWN_MS, MOST_TIMES_SLOWER * known.meanMs);
    return this.state.policy.overheadMs + a.count * each;
  }

  #known(): Known {
    const each = this.dealer.estimates();
    if (each === undefined) return { each, meanMs: UNKNOWN_MS };
    return { each, meanMs: each.size / [...each.values()].reduce((rates, ms) => rates + 1 / ms, 0) };
  }

  #lateAt(a: Assignment, known: Known): number {
    const member = this.state.members.get(a.worker);
    if (member === undefined || a.startedAt === undefined) return Number.POSITIVE_INFINITY;
    const { lateFactor, lateFloorMs, lateUnprovenMs, lateUnknownMs } = this.state.policy;
    let floorMs = member.proven ? lateFloorMs : lateUnprovenMs;
    if (known.each === undefined) floorMs = lateUnknownMs;
    return a.startedAt + Math.max(floorMs, lateFactor * this.#estimateMs(a, known));
  }

  /**
   * Deals late work to idle workers as well. At most two workers have the same work. Does nothing while the coordinator
   * itself may be the late one.
   */
  deal(job: Job, now: number): void {
    if (this.state.isAtWork) return;
    for (const a of [...this.dealer.work.live.values()]) {
      if (!a.isLate || a.copyOf !== undefined || !this.dealer.work.live.has(a.id)) continue;
      const useful = this.#useful(job, a);
      if (useful.length === 0) {
        this.dealer.giveUp(job, a, now);
        continue;
      }
      const other = this.#idleFor(job, a, now);
      if (other === undefined) continue;
      // Both are late: the first is given up, and another worker joins the second.
      if (a.twin !== undefined) {
        if (a.twin.isLate && a.id < a.twin.id) this.dealer.giveUp(job, a, now);
        continue;
      }
      const buckets = sets.setOf(job.totalBuckets, useful);
      this.state.note({ note: 'late', worker: a.worker });
      a.exhausted = true;
      a.twin = this.dealer.work.assign(job, other, a.microBatches, buckets, { twin: a, waived: a.waived }, now);
    }
  }

  /** An idle worker for late work: preferably of another person, and proven. */
  #idleFor(job: Job, a: Assignment, now: number): Member | undefined {
    const others = [...this.state.members.values()].filter((m) => m.id !== a.worker && m.id !== a.twin?.worker);
    let idle = this.dealer.fit(job, a.microBatches, now).filter((m) => others.includes(m) && m.isIdle);
    const otherPersons = others.some((m) => m.ready && m.person !== a.person && m.fencedAt === undefined);
    if (otherPersons) idle = idle.filter((m) => m.person !== a.person);
    // Only proven workers get more than one micro-batch, unless no proven one is expected.
    const provenAtWork = others.some((m) => m.proven && m.ready && !m.live.some((one) => one.isLate));
    if (a.count > 1 && provenAtWork) idle = idle.filter((m) => m.proven);
    if (idle.length === 0) idle = [...this.dealer.force(job, a.microBatches, others, now)];
    return idle.find((m) => m.proven) ?? idle[0];
  }

  /** A contribution of `a` has arrived: gives up `a` or its twin if none of its remaining buckets is needed. */
  delivered(job: Job, a: Assignment, now: number): void {
    if (a.twin === undefined) return;
    for (const one of [a.twin, a])
      if (one.remaining > 0 && this.#useful(job, one).length === 0) this.dealer.giveUp(job, one, now);
  }

  /** Its buckets that neither it nor anybody else has delivered. */
  #useful(job: Job, a: Assignment): number[] {
    return [...sets.membersOf(undelivered(a))].filter(
      (b) => job.lacksAll(b, a.microBatches) && !this.dealer.work.isAudited(a.microBatches, b),
    );
  }

  /** Milliseconds that a worker with work may be silent. */
  #deadlineMs(member: Member): number {
    const { silenceMs, silenceFactor } = this.state.policy;
    return Math.max(silenceMs, silenceFactor * this.dealer.loadMs(member)) * 2 ** Math.min(member.level, 10);
  }

  get #holders(): Member[] {
    return [...this.state.members.values()].filter((m) => m.live.length > 0);
  }

  #fence(job: Job, now: number): void {
    for (const member of this.#holders) {
      if (now - member.quietSince < this.#deadlineMs(member) || !this.#anotherCan(member)) continue;
      member.wasSlow(now);
      this.dealer.fenceOff(job, member, 'silent', now);
    }
  }

  #anotherCan(member: Member): boolean {
    return [...this.state.members.values()].some(
      (m) =>
        m !== member && m.ready && (m.fencedAt === undefined || (m.aliveSinceFence && m.lastLife > member.quietSince)),
    );
  }

  /** The next time after `now` at which work becomes late or hopeless, or a silent worker is fenced. */
  wakeAt(now: number): number {
    const known = this.#known();
    const holders = this.#holders.filter((m) => this.#anotherCan(m));
    const times = holders.map((m) => m.quietSince + this.#deadlineMs(m));
    for (const a of this.dealer.work.live.values())
      if (!a.isLate) times.push(this.#lateAt(a, known));
      else if (a.copyOf !== undefined) times.push(a.hopelessAt);
    return Math.min(Number.POSITIVE_INFINITY, ...times.filter((at) => at > now));
  }
}
