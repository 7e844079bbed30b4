import type { Dealer } from './dealer.js';
import type { WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import { type Assignment, undelivered } from './work.js';

/** What is this many times as late as what is late is not waited for, where the run can do without it. */
const HOPELESS = 2;

/** Nobody is waited for longer than a worker this many times slower than the others would take. */
const MOST_TIMES_SLOWER = 20;

interface Known {
  /** Undefined while nobody's speed is known. */
  readonly each: ReadonlyMap<WorkerId, number> | undefined;
  readonly meanMs: number;
}

/** The shortest time between two looks, besides those of ticks. */
const LOOK_MS = 20;

/** Assumed while nobody's speed is known. */
const UNKNOWN_MS = 1000;

/**
 * Whose work is late, and what is done about it. Life is not work: only contributions prove that a worker gets on.
 *
 *     dealt -> late -> an idle worker is dealt the same (a twin) -> the first contribution of each bucket counts
 *                                                                -> who has nothing left that counts is revoked
 *           -> silent -> fenced off
 */
export class Lateness {
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** Marks what is late, and fences off silent workers whose work others can take. */
  tick(job: Job, now: number): void {
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    this.look(now);
    this.#fence(job, now);
  }

  /** Marks what is late. Events come by the thousand a second, so not at each of them. */
  look(now: number): void {
    if (now < this.#lookedAt + LOOK_MS) return;
    this.#lookedAt = now;
    let known: Known | undefined;
    for (const a of this.dealer.work.live.values()) {
      if (a.isLate || a.startedAt === undefined || now < a.startedAt + this.state.policy.lateFloorMs) continue;
      known ??= this.#known();
      const lateAt = this.#lateAt(a, known);
      if (now < lateAt) continue;
      // What comes after it in the queue will be late too.
      for (const one of this.state.members.get(a.worker)?.live ?? []) {
        one.isLate = true;
        one.hopelessAt = a.startedAt + HOPELESS * (lateAt - a.startedAt);
      }
    }
  }

  /** How long it should take, by what is known. */
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

  /** Deals late work to idle workers as well. At most two have the same. Not while it may be the coordinator that is late. */
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
      // Both are late: the first one is given up, and somebody else comes in beside the second.
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

  /** An idle worker for late work: of another person, proven, if there is one. */
  #idleFor(job: Job, a: Assignment, now: number): Member | undefined {
    const others = [...this.state.members.values()].filter((m) => m.id !== a.worker && m.id !== a.twin?.worker);
    let idle = this.dealer.fit(job, a.microBatches, now).filter((m) => others.includes(m) && m.isIdle);
    const otherPersons = others.some((m) => m.ready && m.person !== a.person && m.fencedAt === undefined);
    if (otherPersons) idle = idle.filter((m) => m.person !== a.person);
    // More than one micro-batch is for the proven, unless only those that are not could ever come.
    const provenAtWork = others.some((m) => m.proven && m.ready && !m.live.some((one) => one.isLate));
    if (a.count > 1 && provenAtWork) idle = idle.filter((m) => m.proven);
    if (idle.length === 0) idle = [...this.dealer.force(job, a.microBatches, others, now)];
    return idle.find((m) => m.proven) ?? idle[0];
  }

  /** A contribution of `a` has come: what it and its twin have left that is of no use any more is given up. */
  delivered(job: Job, a: Assignment, now: number): void {
    if (a.twin === undefined) return;
    for (const one of [a.twin, a])
      if (one.remaining > 0 && this.#useful(job, one).length === 0) this.dealer.giveUp(job, one, now);
  }

  /** Its buckets that have come neither from it nor from anybody else. */
  #useful(job: Job, a: Assignment): number[] {
    return [...sets.membersOf(undelivered(a))].filter(
      (b) => job.lacksAll(b, a.microBatches) && !this.dealer.work.isAudited(a.microBatches, b),
    );
  }

  /** How long a worker with work may be silent. */
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

  /** When `look`, `deal` or `fence` is next of use after `now`. */
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
