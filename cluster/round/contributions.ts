import type { Vote } from './audit.js';
import type { Dealer } from './dealer.js';
import { type ContributionId, type EventOf, OWNER, type WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Roster } from './roster.js';
import * as sets from './sets.js';
import type { PendingContribution, RoundState } from './state.js';
import type { Assignment } from './work.js';

/**
 * Takes contributions into the sums of their buckets: each whole or not at all, each micro-batch once.
 *
 *     contribution --> add ----> added                   (its bytes may go after `added`)
 *                  --> check --> checked --> add | release    (audited)
 *                  --> release                                (stale; the bytes may go)
 */
export class Contributions {
  /** `onComplete`: called when the sum of a bucket becomes complete. */
  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
    readonly roster: Roster,
    readonly onComplete: (job: Job, bucket: number, now: number) => void,
  ) {}

  arrived(event: EventOf<'contribution'>): void {
    const { contribution, worker, bucket, microBatches, now } = event;
    const { config, job: current, close } = this.state;
    const isOfNow = event.incarnation === config.incarnation && event.step === current?.step;
    const impossible = this.#impossible(event);
    if (impossible !== undefined) close(worker, 'LT_CLUSTER_IMPOSSIBLE', impossible, now);
    const { job, a } = (isOfNow && impossible === undefined && this.dealer.work.assignmentOf(event)) || {};
    if (job === undefined || a === undefined) {
      this.#stale(contribution, worker, 'its assignment is not live');
      return;
    }
    if (!sets.has(a.buckets, bucket) || !sets.equalSets(microBatches, a.microBatches)) {
      close(worker, 'LT_CLUSTER_IMPOSSIBLE', `a contribution that assignment ${a.id} does not have`, now);
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
    this.state.moved(now);
    this.dealer.auditor.draw(job, a, event.draw, now);
    this.#take(contribution, job, a, bucket);
    const member = this.state.members.get(worker);
    if (a.remaining === 0 && member !== undefined) {
      member.done += a.count;
      if (a.undecided > 0 && !member.proven) member.awaiting.add(a);
    }
    this.dealer.lateness.delivered(job, a, now);
    if (a.remaining === 0) this.dealer.work.drop(a, now);
  }

  /** Why no honest worker sends this; undefined if it is valid or merely stale. */
  #impossible(event: EventOf<'contribution'>): string | undefined {
    const { incarnation, step, bucket } = event;
    const { config, job, version } = this.state;
    if (incarnation > config.incarnation) return `incarnation ${incarnation} is not yet`;
    // An assignment of an earlier incarnation is stale, whatever the rest says.
    if (incarnation < config.incarnation) return undefined;
    if (step > (job?.step ?? version)) return `step ${step} is not yet`;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket > config.parameterBuckets)
      return `there is no bucket ${bucket}`;
    return undefined;
  }

  #stale(contribution: ContributionId, worker: WorkerId, reason: string): void {
    this.state.counters.stale++;
    this.state.emit({ type: 'release', contribution });
    this.state.note({ note: 'stale', worker, reason });
  }

  /** Answers the first copy of a contribution that was dealt. */
  #take(contribution: ContributionId, job: Job, a: Assignment, bucket: number): void {
    const { worker, person, copyOf } = a;
    const audit = copyOf ?? a.audit;
    const unconfirmed = person === undefined ? [] : [{ worker, person }];
    const pending: PendingContribution = {
      job,
      bucket,
      microBatches: sets.copySet(a.microBatches),
      assignment: a,
      unconfirmed,
    };
    if (copyOf !== undefined && !copyOf.isOpen(bucket)) this.state.emit({ type: 'release', contribution });
    else if (copyOf === undefined && this.dealer.work.isAudited(a.microBatches, bucket))
      this.#stale(contribution, worker, 'inside already');
    else if (audit === undefined) this.#add(contribution, pending);
    else if (!job.lacksAll(bucket, a.microBatches)) this.#stale(contribution, worker, 'inside already');
    else {
      if (copyOf === undefined) sets.insert(audit.buckets, bucket);
      a.undecided++;
      audit.checking++;
      this.state.checking.set(contribution, pending);
      this.state.emit({ type: 'check', contribution });
    }
  }

  /** Adds a whole contribution to its bucket, unless one of its micro-batches is already inside. */
  #add(contribution: ContributionId, pending: PendingContribution): void {
    const { job, bucket, microBatches, assignment } = pending;
    if (!job.lacksAll(bucket, microBatches)) {
      this.#stale(contribution, assignment.worker, 'inside already');
      return;
    }
    job.claim(bucket, microBatches);
    this.state.counters.accepted++;
    assignment.undecided++;
    this.state.adding.set(contribution, pending);
    this.state.emit({ type: 'add', contribution, bucket });
    if (job.kind === 'step')
      for (const { worker, person } of pending.unconfirmed) this.dealer.auditor.unconfirmed(worker, person, job.step);
  }

  added({ contribution, ok, reason, now }: EventOf<'added'>): void {
    const pending = this.state.adding.get(contribution);
    if (pending === undefined) throw new RangeError(`contribution ${contribution} was not to be added`);
    this.state.adding.delete(contribution);
    const { job, bucket, assignment } = pending;
    this.state.moved(now);
    this.dealer.resolve(job, assignment, ok && assignment.copyOf === undefined && assignment.audit === undefined);
    if (ok) {
      if (job.added(bucket)) this.onComplete(job, bucket, now);
      return;
    }
    job.unclaim(bucket, pending.microBatches);
    this.state.counters.accepted--;
    this.dealer.work.open(job, pending.microBatches, sets.setOf(job.totalBuckets, [bucket]));
    this.#spoiled(job, assignment, reason, now);
  }

  /** A payload does not match its header: its sender's connection ends. */
  #spoiled(job: Job, { worker, microBatches }: Assignment, reason: string | undefined, now: number): void {
    this.state.counters.spoiled++;
    const member = this.state.members.get(worker);
    if (member !== undefined) this.dealer.eligibility.left(job, member, now, microBatches);
    if (worker === OWNER) this.roster.ownerUnable(now);
    this.state.close(worker, 'LT_CLUSTER_PAYLOAD', reason ?? 'its payload is not what its header says', now);
  }

  checked({ contribution, digest, now }: EventOf<'checked'>): void {
    const pending = this.state.checking.get(contribution);
    const audit = pending?.assignment.copyOf ?? pending?.assignment.audit;
    if (pending === undefined || audit === undefined)
      throw new RangeError(`contribution ${contribution} was not to be checked`);
    const { job, bucket, assignment } = pending;
    this.state.checking.delete(contribution);
    this.state.moved(now);
    audit.checking--;
    const current = job === this.state.job && audit.isOpen(bucket);
    if (current && digest !== undefined) {
      this.#vote(contribution, pending, digest, now);
      return;
    }
    this.state.emit({ type: 'release', contribution });
    this.dealer.resolve(job, assignment, false);
    if (digest !== undefined) return;
    if (current && assignment.copyOf === undefined) this.dealer.auditor.drop(job, audit, bucket, false);
    this.#spoiled(job, assignment, undefined, now);
  }

  #vote(contribution: ContributionId, pending: PendingContribution, digest: string, now: number): void {
    const { bucket, assignment } = pending;
    const { worker, person } = assignment;
    const audit = assignment.copyOf ?? assignment.audit;
    const result = audit?.vote(bucket, { worker, person, assignment, digest });
    if (result?.verdict !== 'decided') {
      this.state.emit({ type: 'release', contribution });
      if (result?.disagreement) this.state.note({ note: 'audit', worker, bucket, reason: 'two workers differ' });
      return;
    }
    this.#decided(contribution, pending, result.agreeing, result.wrong, now);
  }

  #decided(
    id: ContributionId,
    pending: PendingContribution,
    agreeing: readonly Vote[],
    wrong: readonly Vote[],
    now: number,
  ): void {
    const { job, bucket } = pending;
    const byOwner = agreeing.some((vote) => vote.person === undefined);
    this.state.counters.audited++;
    for (const vote of agreeing) this.dealer.resolve(job, vote.assignment, true);
    for (const vote of wrong) this.dealer.resolve(job, vote.assignment, false);
    const unconfirmed = agreeing.flatMap((v) =>
      byOwner || v.person === undefined ? [] : [{ ...v, person: v.person }],
    );
    this.#add(id, { ...pending, unconfirmed });
    const by = byOwner ? "the owner's adapter has" : 'two others agree on';
    for (const vote of wrong)
      this.dealer.auditor.foundWrong(vote, bucket, `${by} another sum of bucket ${bucket}`, now);
  }
}
