import { deal, estimates, handBackCount, type Lane } from '../assignment.js';
import { isAudited, Trial } from './audit.js';
import type { AssignmentId, Policy, RoundAction, RoundConfig, RoundNote, StopReason, WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import type { IdSet } from './sets.js';
import * as sets from './sets.js';
import { type Assignment, Pool, undelivered, type WorkItem } from './work.js';

/** What the dealer says to, and asks of, the round around it. */
export interface Table {
  readonly config: RoundConfig;
  readonly policy: Policy;
  readonly members: ReadonlyMap<WorkerId, Member>;
  emit(action: RoundAction): void;
  note(note: RoundNote): void;
  halt(reason: StopReason): void;
}

/** Who does what of the job in hand: shares, hand-backs, takeovers, copies for audits. */
export class Dealer {
  readonly live = new Map<AssignmentId, Assignment>();
  readonly #pool = new Pool();
  #trials: Trial[] = [];
  #next: AssignmentId = 1;

  constructor(readonly table: Table) {}

  /** The smallest id that was never dealt. */
  get nextAssignment(): AssignmentId {
    return this.#next;
  }

  get idle(): boolean {
    return this.live.size === 0;
  }

  /** Whether there is work that nobody has been given. */
  get hasOpenWork(): boolean {
    return this.#pool.items.length > 0 || this.#trials.some((trial) => trial.lacking().length > 0);
  }

  begin(job: Job): void {
    this.#pool.add({ microBatches: job.microBatches, buckets: job.buckets });
  }

  /** The job is over; what is left of it is void. */
  end(now: number): void {
    for (const a of [...this.live.values()]) this.revoke(a, now);
    this.#pool.clear();
    this.#trials = [];
  }

  /** Takes an assignment off its worker's hands and says so; its work goes to nobody. */
  revoke(a: Assignment, now: number): void {
    this.drop(a, now);
    this.table.emit({ type: 'revoke', worker: a.worker, assignment: a.id });
  }

  drop(a: Assignment, now: number): void {
    this.live.delete(a.id);
    this.table.members.get(a.worker)?.drop(a, now);
  }

  /** What an assignment that has been dropped still owed is open again; `refused` micro-batches are kept apart. */
  reopen(job: Job, a: Assignment, refused?: IdSet): void {
    const owed = undelivered(a);
    const { trial } = a;
    if (trial !== undefined) {
      for (const b of sets.membersOf(owed)) this.reopenCopy(job, trial, b);
      return;
    }
    const rest = sets.copySet(a.microBatches);
    if (refused !== undefined) {
      sets.removeAll(rest, refused);
      this.#open(job, refused, owed);
    }
    this.#open(job, rest, owed);
  }

  /** A copy of an audited bucket will not come after all. */
  reopenCopy(job: Job, trial: Trial, bucket: number): void {
    if (sets.has(trial.waived, bucket)) this.#reopenWaived(job, trial, bucket);
    else trial.want(bucket);
  }

  /** These micro-batches are lacking in this bucket after all. */
  reopenBucket(job: Job, microBatches: IdSet, bucket: number): void {
    this.#open(job, microBatches, sets.setOf(job.totalBuckets, [bucket]));
  }

  handBack(job: Job, a: Assignment, microBatches: IdSet, now: number): void {
    const count = sets.countOf(microBatches);
    if (a.asked && count === 0) a.exhausted = true;
    a.asked = false;
    if (count === 0) return;
    sets.removeAll(a.microBatches, microBatches);
    a.count -= count;
    this.#open(job, microBatches, sets.copySet(a.buckets), a.worker);
    if (a.count === 0) this.drop(a, now);
  }

  #open(job: Job, microBatches: IdSet, buckets: IdSet, from?: WorkerId): void {
    const struck = [...job.strikes.keys()].some((m) => sets.has(microBatches, m));
    this.#pool.add({ microBatches: sets.copySet(microBatches), buckets, alone: struck, from });
  }

  #reopenWaived(job: Job, trial: Trial, bucket: number): void {
    const computing = [...this.live.values()].some((a) => a.trial === trial && sets.has(undelivered(a), bucket));
    if (computing || trial.isChecking(bucket) || !job.lacksAll(bucket, trial.microBatches)) return;
    this.reopenBucket(job, trial.microBatches, bucket);
  }

  /** Gives open work to those who will have done it first, and lets idle workers ask for what is late. */
  settle(job: Job, now: number): void {
    for (const trial of this.#trials) this.#dealCopies(job, trial, now);
    for (const item of this.#pool.items) this.#dealItem(job, item, now);
    this.#askBack();
  }

  #able(): Member[] {
    return [...this.table.members.values()].filter((m) => m.able);
  }

  /** Estimated milliseconds of one micro-batch. */
  estimateOf(member: Member): number {
    return this.#lanes([member])[0].microBatchMs;
  }

  #lanes(members: readonly Member[]): Lane[] {
    const all = [...this.table.members.values()];
    const each = estimates(all.map((m) => m.speed.microBatchMs));
    return members.map((member) => {
      const microBatchMs = each[all.indexOf(member)];
      return { microBatchMs, loadMs: member.left * microBatchMs };
    });
  }

  #dealItem(job: Job, item: WorkItem, now: number): void {
    let able = mayHave(job, item.microBatches, this.#able());
    if (able.length === 0 && this.#unfence()) able = mayHave(job, item.microBatches, this.#able());
    if (able.length === 0) return;
    if (item.from !== undefined) {
      able = preferred(able, (m) => m.id !== item.from);
      able = preferred(able, (m) => m.live.length === 0);
    }
    this.#pool.delete(item);
    const shares = deal(sets.countOf(item.microBatches), this.#lanes(able), this.table.policy.overheadMs);
    const rest = sets.copySet(item.microBatches);
    able.forEach((member, i) => {
      if (shares[i] === 0) return;
      const share = sets.takeFirst(rest, shares[i]);
      this.#assign(job, member, share, item.buckets, this.#audit(job, member, share, item.buckets), now);
    });
  }

  /** Nobody is fenced off who is the only one that can work: those who have shown life may again. */
  #unfence(): boolean {
    let any = false;
    for (const member of this.table.members.values()) {
      if (!member.ready || !member.aliveSinceFence) continue;
      member.fencedAt = undefined;
      this.table.note({ note: 'unfence', worker: member.id });
      any = true;
    }
    return any;
  }

  #assign(job: Job, member: Member, share: IdSet, buckets: IdSet, trial: Trial | undefined, now: number): void {
    const a: Assignment = {
      id: this.#next++,
      worker: member.id,
      microBatches: share,
      count: sets.countOf(share),
      buckets: sets.copySet(buckets),
      delivered: sets.emptySet(job.totalBuckets),
      remaining: sets.countOf(buckets),
      begun: 0,
      fixed: false,
      asked: false,
      exhausted: false,
      trial,
    };
    this.live.set(a.id, a);
    member.take(a, now);
    this.table.emit({
      type: 'assign',
      worker: member.id,
      assignment: a.id,
      kind: job.kind,
      step: job.step,
      evaluation: job.evaluation,
      microBatches: sets.copySet(share),
      buckets: sets.copySet(buckets),
    });
  }

  #audit(job: Job, member: Member, share: IdSet, buckets: IdSet): Trial | undefined {
    const { audit, seed } = this.table.config;
    if (job.kind !== 'step' || !isAudited(audit, seed, job.step, job.serial++)) return undefined;
    const partner = this.#able().some((m) => m !== member && m.bitClass === member.bitClass);
    if (!partner) {
      this.table.note({ note: 'unaudited', worker: member.id });
      return undefined;
    }
    const trial = new Trial(sets.copySet(share), member.bitClass, sets.copySet(buckets), job.totalBuckets);
    this.#trials.push(trial);
    return trial;
  }

  /**
   * Deals the copies that an audit lacks. A third copy waits until all others are digested, so that it is one
   * assignment for all buckets in dispute.
   */
  #dealCopies(job: Job, trial: Trial, now: number): void {
    const mayHelp = mayHave(
      job,
      trial.microBatches,
      [...this.table.members.values()].filter((m) => m.bitClass === trial.bitClass),
    );
    for (;;) {
      const copies = [...this.live.values()].filter((a) => a.trial === trial);
      const unsettled = copies.length > 0 || trial.checksAny;
      const open = trial.lacking().filter((b) => trial.votesOf(b).length < 2 || !unsettled);
      const may = (m: Member, b: number) =>
        !trial.hasSent(m.id, b) && !copies.some((a) => a.worker === m.id && sets.has(undelivered(a), b));
      const able = mayHelp.filter((m) => m.able && open.some((b) => may(m, b)));
      if (able.length === 0) {
        if (mayHelp.some((m) => m.aliveSinceFence && open.some((b) => may(m, b))) && this.#unfence()) continue;
        for (const b of open)
          this.#giveUp(
            job,
            trial,
            b,
            mayHelp.filter((m) => may(m, b)),
          );
        return;
      }
      const lanes = this.#lanes(able);
      const ends = lanes.map((lane) => lane.loadMs + lane.microBatchMs * sets.countOf(trial.microBatches));
      const member = able[ends.indexOf(Math.min(...ends))];
      const mine = open.filter((b) => may(member, b));
      for (const b of mine) trial.want(b, -1);
      const buckets = sets.setOf(job.totalBuckets, mine);
      this.#assign(job, member, sets.copySet(trial.microBatches), buckets, trial, now);
    }
  }

  /**
   * Nobody can compute a copy now, and only `later` after a while. Workers that are fenced off do not count, unless
   * two votes differ: then the run waits for them, or for their connections to end.
   */
  #giveUp(job: Job, trial: Trial, bucket: number, later: readonly Member[]): void {
    const workers = trial.votesOf(bucket).map((vote) => vote.worker);
    if (later.some((m) => m.fencedAt === undefined || workers.length >= 2)) return;
    if (workers.length >= 2) {
      this.table.halt({ why: 'audit', bucket, workers });
      return;
    }
    trial.waive(bucket);
    this.table.note({ note: 'unaudited', worker: workers[0] });
    this.#reopenWaived(job, trial, bucket);
  }

  #askBack(): void {
    if (this.hasOpenWork) return;
    const asked = [...this.live.values()].filter((a) => a.asked).length;
    const idle = this.#able().filter((m) => m.live.length === 0);
    for (const thief of idle.slice(asked)) {
      const late = this.#able().filter((m) => this.#reclaimable(m) !== undefined);
      const lanes = this.#lanes(late);
      const latest = lanes.reduce((best, lane, i) => (best < 0 || lane.loadMs > lanes[best].loadMs ? i : best), -1);
      const a = latest < 0 ? undefined : this.#reclaimable(late[latest]);
      if (a === undefined) return;
      const [lane] = this.#lanes([thief]);
      const count = handBackCount(a.count - a.begun, lanes[latest], lane, this.table.policy.overheadMs);
      if (count === 0) continue;
      a.asked = true;
      const last = sets.copySet(a.microBatches);
      sets.takeFirst(last, a.count - count);
      this.table.emit({ type: 'ask-back', worker: a.worker, assignment: a.id, microBatches: last });
    }
  }

  /** The last assignment of a worker of which something can be asked back. */
  #reclaimable(member: Member): Assignment | undefined {
    return member.live.findLast((a) => !a.fixed && !a.asked && !a.exhausted && !a.trial && a.begun < a.count);
  }

  /** How long a worker with work may be silent. */
  #deadlineMs(member: Member): number {
    const { silenceMs, silenceFactor } = this.table.policy;
    const [{ loadMs }] = this.#lanes([member]);
    return Math.max(silenceMs, silenceFactor * loadMs) * 2 ** Math.min(member.fences, 10);
  }

  get #holders(): Member[] {
    return [...this.table.members.values()].filter((m) => m.live.length > 0);
  }

  #stallMs(holders: readonly Member[]): number {
    return this.table.policy.stallFactor * Math.max(...holders.map((m) => this.#deadlineMs(m)));
  }

  /**
   * Fences off silent workers whose work others can take; and workers that answer but do not work, when nothing at all
   * has moved since `movedAt` (undefined: it is the coordinator that is at work).
   */
  fence(job: Job, now: number, movedAt: number | undefined): void {
    for (const member of this.#holders) {
      const silentMs = now - member.quietSince;
      if (silentMs >= this.#deadlineMs(member) && this.#anotherCan(member))
        this.#fenceOff(job, member, silentMs, 'silent', now);
    }
    const holders = this.#holders;
    if (movedAt === undefined || holders.length === 0 || now - movedAt < this.#stallMs(holders)) return;
    for (const member of holders) {
      if (this.#idleBeside(member)) this.#fenceOff(job, member, now - movedAt, 'its work stands still', now);
    }
  }

  /** When `fence` is next of use. */
  wakeAt(movedAt: number | undefined): number | undefined {
    const holders = this.#holders;
    if (holders.length === 0) return undefined;
    const times = holders.filter((m) => this.#anotherCan(m)).map((m) => m.quietSince + this.#deadlineMs(m));
    if (movedAt !== undefined && holders.some((m) => this.#idleBeside(m))) times.push(movedAt + this.#stallMs(holders));
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  #idleBeside(member: Member): boolean {
    return this.#able().some((m) => m !== member && m.live.length === 0);
  }

  #anotherCan(member: Member): boolean {
    return [...this.table.members.values()].some(
      (m) => m !== member && m.ready && (m.able || (m.aliveSinceFence && m.lastLife > member.quietSince)),
    );
  }

  #fenceOff(job: Job, member: Member, silentMs: number, reason: string, now: number): void {
    member.fence(now);
    this.table.note({ note: 'fence', worker: member.id, silentMs, reason });
    for (const a of member.live) {
      this.revoke(a, now);
      this.reopen(job, a);
    }
  }
}

/**
 * Of `members`, those who may have these micro-batches: who has refused one gets it again only if there is nobody else,
 * and no third time.
 */
function mayHave(job: Job, microBatches: IdSet, members: readonly Member[]): readonly Member[] {
  if (job.strikes.size === 0) return members;
  const strikes = members.map((member) => {
    let most = 0;
    for (const [microBatch, workers] of job.strikes)
      if (sets.has(microBatches, microBatch)) most = Math.max(most, workers.filter((w) => w === member.id).length);
    return most;
  });
  const without = members.filter((_, i) => strikes[i] === 0);
  return without.length > 0 ? without : members.filter((_, i) => strikes[i] < 2);
}

function preferred<T>(all: readonly T[], wanted: (one: T) => boolean): readonly T[] {
  const some = all.filter(wanted);
  return some.length > 0 ? some : all;
}
