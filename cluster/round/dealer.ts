import { Auditor } from './auditor.js';
import { Claims } from './claims.js';
import { Eligibility } from './eligibility.js';
import type { WorkerId } from './events.js';
import { HandBacks } from './hand-backs.js';
import { type Job, MOST_FAILURES } from './job.js';
import { Lateness } from './lateness.js';
import { LiveWork } from './live-work.js';
import { deal, estimates, type WorkerLoad } from './load-balance.js';
import type { Member } from './member.js';
import type { IdSet } from './sets.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import type { Assignment, WorkItem } from './work.js';

/**
 * Decides who does what of the current job. Deals open work here, by speed. Its parts:
 *
 *     LiveWork     what each worker has, and what is open
 *     Eligibility  which workers may be dealt work
 *     HandBacks    idle workers take over what others have not begun
 *     Lateness     late work is dealt a second time; silent workers are fenced
 *     Auditor      copies for audits
 *     Claims       refused micro-batches, which somebody else checks
 */
export class Dealer {
  readonly work: LiveWork;
  readonly eligibility: Eligibility;
  readonly auditor: Auditor;
  readonly claims: Claims;
  readonly lateness: Lateness;
  readonly handBacks: HandBacks;

  constructor(readonly state: RoundState) {
    this.work = new LiveWork(state);
    this.eligibility = new Eligibility(state);
    this.auditor = new Auditor(state, this);
    this.claims = new Claims(state, this);
    this.lateness = new Lateness(state, this);
    this.handBacks = new HandBacks(state, this);
  }

  get isIdle(): boolean {
    return this.work.live.size === 0;
  }

  /** No progress is expected: only late workers have work. */
  get isStuck(): boolean {
    return !this.state.isAtWork && [...this.work.live.values()].every((a) => a.isLate);
  }

  /** Whether there is work that nobody has. */
  get hasOpenWork(): boolean {
    return this.work.pool.items.length > 0 || this.auditor.lacksCopies;
  }

  /** Deals open work to the workers that will be done first, and lets idle workers take over late work. */
  settle(job: Job, now: number): void {
    this.eligibility.lift(now);
    this.lateness.look(now);
    this.auditor.settle(job, now);
    this.#dealOpen(job, now);
    this.handBacks.ask(job, now);
    if (this.hasOpenWork) return;
    this.lateness.deal(job, now);
    this.#dealOpen(job, now);
  }

  #dealOpen(job: Job, now: number): void {
    for (const item of this.work.pool.items) this.#dealItem(job, item, now);
  }

  #dealItem(job: Job, item: WorkItem, now: number): void {
    if (item.claim !== undefined && job.claims.includes(item.claim)) {
      this.claims.deal(job, item, item.claim, now);
      return;
    }
    const { microBatches, from } = item;
    let able = this.fit(job, microBatches, now);
    if (able.length === 0) able = this.force(job, microBatches, [...this.state.members.values()], now);
    if (able.length === 0) return;
    let proving: readonly Member[] = [...this.state.members.values()].filter((m) => this.eligibility.isProving(m));
    if (from !== undefined) {
      able = preferred(able, (m) => m.id !== from);
      able = preferred(able, (m) => m.live.length === 0);
      proving = [];
    }
    // Workers that are proving themselves have work kept for them. Idle workers take what they can do sooner.
    const all = [...this.state.members.values()].filter((m) => able.includes(m) || proving.includes(m));
    const counts = deal(sets.countOf(microBatches), this.loads(all), this.state.policy.overheadMs);
    const rest = sets.copySet(microBatches);
    const dealt: [Member, IdSet][] = [];
    all.forEach((member, i) => {
      if (!able.includes(member) || (item.kept === true && member.live.length > 0)) return;
      const most = member.forced ? Math.max(1, counts[i]) : counts[i];
      const count = member.proven ? most : Math.min(1, most);
      if (count > 0) dealt.push([member, sets.takeFirst(rest, count)]);
    });
    this.work.take(item);
    const { buckets, waived } = item;
    for (const [member, assigned] of dealt) this.work.assign(job, member, assigned, buckets, { waived }, now);
    this.work.pool.add({ ...item, microBatches: rest, from: undefined, kept: true });
  }

  /** Workers that may be dealt these micro-batches now. */
  fit(job: Job, microBatches: IdSet, now: number): readonly Member[] {
    return this.eligibility
      .able(now)
      .filter((m) => m.forced || (!m.refuses && job.failuresOf(m.person, microBatches) < MOST_FAILURES));
  }

  /** If no other progress is possible: one worker that would not be allowed otherwise. */
  force(job: Job, microBatches: IdSet, members: readonly Member[], now: number): readonly Member[] {
    if (!this.isStuck) return [];
    const one = this.eligibility.force(members, (m) => job.failuresOf(m.person, microBatches), now);
    return one === undefined ? [] : [one];
  }

  /** Estimated milliseconds of one micro-batch, by worker; undefined when nobody's speed is known. */
  estimates(): ReadonlyMap<WorkerId, number> | undefined {
    const all = [...this.state.members.values()];
    if (all.every((m) => m.microBatchMs === undefined)) return undefined;
    const each = estimates(all.map((m) => m.microBatchMs));
    return new Map(all.map((m, i) => [m.id, each[i]]));
  }

  /** Estimated milliseconds of the work it has left. */
  loadMs(member: Member): number {
    return this.loads([member])[0].loadMs;
  }

  loads(members: readonly Member[]): WorkerLoad[] {
    const all = [...this.state.members.values()];
    const each = estimates(all.map((m) => m.microBatchMs));
    return members.map((member) => {
      const microBatchMs = each[all.indexOf(member)];
      return { microBatchMs, loadMs: member.left * microBatchMs };
    });
  }

  /** It has been decided whether a contribution of the assignment is used. */
  resolve(job: Job, a: Assignment, used: boolean): void {
    a.undecided--;
    if (used) a.used++;
    const member = this.state.members.get(a.worker);
    if (a.undecided === 0) member?.awaiting.delete(a);
    if (a.used < sets.countOf(a.buckets)) return;
    if (member !== undefined && member.fencedAt === undefined) member.proven = true;
    this.claims.computed(job, a);
  }

  /** Others have done the rest of the assignment. If it was late, its worker is fenced. */
  giveUp(job: Job, a: Assignment, now: number): void {
    const member = this.state.members.get(a.worker);
    if (a.isLate && member !== undefined) {
      member.wasSlow(now);
      this.fenceOff(job, member, 'others did its work first', now);
    } else this.work.revoke(a, now);
  }

  fenceOff(job: Job, member: Member, reason: string, now: number): void {
    this.eligibility.fence(job, member, now);
    this.state.note({ note: 'fence', worker: member.id, reason });
    for (const a of [...member.live]) {
      this.work.revoke(a, now);
      this.work.reopen(job, a);
    }
  }
}

function preferred<T>(all: readonly T[], wanted: (one: T) => boolean): readonly T[] {
  const some = all.filter(wanted);
  return some.length > 0 ? some : all;
}
