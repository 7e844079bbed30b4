import { deal, estimates, handBackCount, type Lane } from './assignment.js';
import type { Trial } from './audit.js';
import { Auditor } from './auditor.js';
import { Claims } from './claims.js';
import { type AssignmentId, OWNER, type WorkerId } from './events.js';
import type { Job } from './job.js';
import { Lateness } from './lateness.js';
import { Manners } from './manners.js';
import type { Member } from './member.js';
import type { IdSet } from './sets.js';
import * as sets from './sets.js';
import type { Table } from './table.js';
import { type Assignment, Pool, undelivered, type WorkItem } from './work.js';

/** A person that has not done a micro-batch this often in one job is dealt it only if nobody else can be. */
const MOST_FAILURES = 2;

interface Role {
  readonly copyOf?: Trial;
  readonly twin?: Assignment;
  readonly waived?: boolean;
}

/** Who does what of the job in hand: shares, hand-backs, takeovers. */
export class Dealer {
  readonly live = new Map<AssignmentId, Assignment>();
  readonly manners: Manners;
  readonly auditor: Auditor;
  readonly claims: Claims;
  readonly lateness: Lateness;
  readonly #pool = new Pool();
  #next: AssignmentId = 1;

  constructor(readonly table: Table) {
    this.manners = new Manners(table);
    this.auditor = new Auditor(table, this);
    this.claims = new Claims(table, this);
    this.lateness = new Lateness(table, this);
  }

  /** The smallest id that was never dealt. */
  get nextAssignment(): AssignmentId {
    return this.#next;
  }

  get idle(): boolean {
    return this.live.size === 0;
  }

  get isOwnerBusy(): boolean {
    return [...this.live.values()].some((a) => a.worker === OWNER);
  }

  /** Nothing comes of itself: nobody is at work, but those who are late. */
  get isStuck(): boolean {
    return !this.table.isAtWork && [...this.live.values()].every((a) => a.isLate);
  }

  /** Whether there is work that nobody has been given. */
  get hasOpenWork(): boolean {
    return this.#pool.items.length > 0 || this.auditor.lacksCopies;
  }

  begin(job: Job): void {
    this.#pool.add({ microBatches: job.microBatches, buckets: job.buckets });
  }

  /** The job is over; what is left of it is void. */
  end(now: number): void {
    for (const a of [...this.live.values()]) this.revoke(a, now);
    this.#pool.clear();
    this.auditor.clear();
  }

  /** Takes an assignment off its worker's hands and says so; its work goes to nobody. */
  revoke(a: Assignment, now: number): void {
    this.drop(a, now);
    this.table.emit({ type: 'revoke', worker: a.worker, assignment: a.id });
  }

  drop(a: Assignment, now: number): void {
    this.live.delete(a.id);
    this.table.members.get(a.worker)?.drop(a, now);
    if (a.twin !== undefined) a.twin.twin = undefined;
    a.twin = undefined;
  }

  /** What an assignment that has been dropped still owed is open again. */
  reopen(job: Job, a: Assignment): void {
    if (a.copyOf === undefined) this.open(job, a.microBatches, undelivered(a), { waived: a.waived });
  }

  /** Opens what nobody has, and is not inside: whoever asks for it twice changes nothing. */
  open(job: Job, microBatches: IdSet, buckets: IdSet, how: { from?: WorkerId; waived?: boolean } = {}): void {
    const lacking = [...sets.membersOf(buckets)].filter((b) => !this.#isCovered(job, microBatches, b));
    const rest = sets.copySet(microBatches);
    const item = { buckets: sets.setOf(job.totalBuckets, lacking), from: how.from, waived: how.waived || undefined };
    for (const claim of job.claims) {
      const claimed = rest.map((word, w) => word & (claim.microBatches[w] ?? 0));
      sets.removeAll(rest, claimed);
      this.#pool.add({ ...item, microBatches: claimed, claim, from: undefined });
    }
    this.#pool.add({ ...item, microBatches: rest });
  }

  #isCovered(job: Job, microBatches: IdSet, bucket: number): boolean {
    if (!job.lacksAll(bucket, microBatches) || this.auditor.covers(microBatches, bucket)) return true;
    if (this.#pool.has(microBatches, bucket)) return true;
    return [...this.live.values()].some(
      (a) =>
        a.copyOf === undefined &&
        sets.has(a.buckets, bucket) &&
        !sets.has(a.delivered, bucket) &&
        sets.intersects(a.microBatches, microBatches),
    );
  }

  /** It is decided whether a contribution of the assignment is of use. */
  resolve(job: Job, a: Assignment, used: boolean): void {
    a.undecided--;
    if (used) a.used++;
    const member = this.table.members.get(a.worker);
    if (a.undecided === 0) member?.awaiting.delete(a);
    if (a.used < sets.countOf(a.buckets)) return;
    if (member !== undefined && member.fencedAt === undefined) member.proven = true;
    this.claims.computed(job, a);
  }

  handBack(job: Job, a: Assignment, microBatches: IdSet, now: number): void {
    const count = sets.countOf(microBatches);
    if (a.asked !== undefined && count === 0) a.exhausted = true;
    a.asked = undefined;
    if (count === 0) return;
    if (a.twin !== undefined) {
      // The other one has all of it.
      this.revoke(a, now);
      return;
    }
    sets.removeAll(a.microBatches, microBatches);
    a.count -= count;
    if (a.count === 0) this.drop(a, now);
    this.open(job, microBatches, a.buckets, { from: a.worker, waived: a.waived });
  }

  /** Gives open work to those who will have done it first, and lets idle workers ask for what is late. */
  settle(job: Job, now: number): void {
    this.manners.lift(now);
    this.lateness.look(now);
    this.auditor.settle(job, now);
    for (const item of this.#pool.items) this.#dealItem(job, item, now);
    this.#handBacks(job, now);
    if (this.hasOpenWork) return;
    this.lateness.deal(job, now);
    for (const item of this.#pool.items) this.#dealItem(job, item, now);
  }

  /** Estimated milliseconds of one micro-batch, by worker; undefined when nobody's speed is known. */
  estimates(): ReadonlyMap<WorkerId, number> | undefined {
    const all = [...this.table.members.values()];
    if (all.every((m) => m.microBatchMs === undefined)) return undefined;
    const each = estimates(all.map((m) => m.microBatchMs));
    return new Map(all.map((m, i) => [m.id, each[i]]));
  }

  /** What it has to do, in time. */
  loadMs(member: Member): number {
    return this.#lanes([member])[0].loadMs;
  }

  #lanes(members: readonly Member[]): Lane[] {
    const all = [...this.table.members.values()];
    const each = estimates(all.map((m) => m.microBatchMs));
    return members.map((member) => {
      const microBatchMs = each[all.indexOf(member)];
      return { microBatchMs, loadMs: member.left * microBatchMs };
    });
  }

  /** Who may be dealt these micro-batches now. */
  fit(job: Job, microBatches: IdSet, now: number): readonly Member[] {
    return this.manners
      .able(now)
      .filter((m) => m.forced || (!m.refuses && job.failuresOf(m.person, microBatches) < MOST_FAILURES));
  }

  /** If nothing else will ever happen: one who may not, but has to. */
  force(job: Job, microBatches: IdSet, members: readonly Member[], now: number): readonly Member[] {
    if (!this.isStuck) return [];
    const one = this.manners.force(members, (m) => job.failuresOf(m.person, microBatches), now);
    return one === undefined ? [] : [one];
  }

  #dealItem(job: Job, item: WorkItem, now: number): void {
    if (item.claim !== undefined && job.claims.includes(item.claim)) {
      this.claims.deal(job, item, item.claim, now);
      return;
    }
    const { microBatches, from } = item;
    let able = this.fit(job, microBatches, now);
    if (able.length === 0) able = this.force(job, microBatches, [...this.table.members.values()], now);
    if (able.length === 0) return;
    let onTrial: readonly Member[] = [...this.table.members.values()].filter((m) => this.manners.isOnTrial(m));
    if (from !== undefined) {
      able = preferred(able, (m) => m.id !== from);
      able = preferred(able, (m) => m.live.length === 0);
      onTrial = [];
    }
    // Who is on trial has a part kept for it, of which the idle take what they can do sooner.
    const all = [...this.table.members.values()].filter((m) => able.includes(m) || onTrial.includes(m));
    const shares = deal(sets.countOf(microBatches), this.#lanes(all), this.table.policy.overheadMs);
    const rest = sets.copySet(microBatches);
    const dealt: [Member, IdSet][] = [];
    all.forEach((member, i) => {
      if (!able.includes(member) || (item.kept === true && member.live.length > 0)) return;
      const most = member.forced ? Math.max(1, shares[i]) : shares[i];
      const count = member.proven ? most : Math.min(1, most);
      if (count > 0) dealt.push([member, sets.takeFirst(rest, count)]);
    });
    this.take(item);
    for (const [member, share] of dealt) this.assign(job, member, share, item.buckets, { waived: item.waived }, now);
    this.#pool.add({ ...item, microBatches: rest, from: undefined, kept: true });
  }

  /** Takes an item out of the pool. */
  take(item: WorkItem): void {
    this.#pool.delete(item);
  }

  /** `member`: undefined for the owner's adapter. */
  assign(job: Job, member: Member | undefined, share: IdSet, buckets: IdSet, role: Role, now: number): Assignment {
    const a: Assignment = {
      id: this.#next++,
      worker: member?.id ?? OWNER,
      person: member?.person,
      microBatches: sets.copySet(share),
      count: sets.countOf(share),
      buckets: sets.copySet(buckets),
      delivered: sets.emptySet(job.totalBuckets),
      remaining: sets.countOf(buckets),
      used: 0,
      undecided: 0,
      begun: 0,
      fixed: false,
      asked: undefined,
      exhausted: role.twin !== undefined,
      startedAt: undefined,
      isLate: false,
      hopelessAt: Number.POSITIVE_INFINITY,
      twin: role.twin,
      drawn: member === undefined || role.copyOf !== undefined,
      waived: role.waived === true,
      trial: undefined,
      copyOf: role.copyOf,
    };
    this.live.set(a.id, a);
    member?.take(a, now);
    this.table.emit({
      type: 'assign',
      worker: a.worker,
      assignment: a.id,
      kind: job.kind,
      step: job.step,
      microBatches: sets.copySet(share),
      buckets: sets.copySet(buckets),
    });
    return a;
  }

  #handBacks(job: Job, now: number): void {
    if (this.hasOpenWork) return;
    const asked = [...this.live.values()].filter((a) => a.asked !== undefined && !a.isLate).length;
    const idle = this.manners.able(now).filter((m) => m.isIdle && !m.refuses);
    for (const thief of idle.slice(asked)) {
      const late = [...this.table.members.values()].filter((m) => this.#reclaimable(m) !== undefined);
      const lanes = this.#lanes(late);
      const latest = lanes.reduce((best, lane, i) => (best < 0 || lane.loadMs > lanes[best].loadMs ? i : best), -1);
      const a = latest < 0 ? undefined : this.#reclaimable(late[latest]);
      if (a === undefined) return;
      const [lane] = this.#lanes([thief]);
      const most = handBackCount(a.count - a.begun, lanes[latest], lane, this.table.policy.overheadMs);
      if (most === 0) continue;
      const count = thief.proven ? most : 1;
      const last = sets.copySet(a.microBatches);
      sets.takeFirst(last, a.count - count);
      if (job.failuresOf(thief.person, last) >= MOST_FAILURES) continue;
      a.asked = last;
      this.table.emit({ type: 'hand-back', worker: a.worker, assignment: a.id, microBatches: sets.copySet(last) });
    }
  }

  /** The last assignment of a worker of which something can be asked back. */
  #reclaimable(member: Member): Assignment | undefined {
    return member.live.findLast(
      (a) => !a.fixed && a.asked === undefined && !a.exhausted && a.copyOf === undefined && a.begun < a.count,
    );
  }

  /** Others have done what is left of the assignment. If it was late, its worker has cost the run that. */
  giveUp(job: Job, a: Assignment, now: number): void {
    const member = this.table.members.get(a.worker);
    if (a.isLate && member !== undefined) {
      member.wasSlow(now);
      this.fenceOff(job, member, 'others did its work first', now);
    } else this.revoke(a, now);
  }

  fenceOff(job: Job, member: Member, reason: string, now: number): void {
    const silentMs = now - member.quietSince;
    this.manners.fence(job, member, now);
    this.table.note({ note: 'fence', worker: member.id, silentMs, reason });
    for (const a of [...member.live]) {
      this.revoke(a, now);
      this.reopen(job, a);
    }
  }
}

function preferred<T>(all: readonly T[], wanted: (one: T) => boolean): readonly T[] {
  const some = all.filter(wanted);
  return some.length > 0 ? some : all;
}
