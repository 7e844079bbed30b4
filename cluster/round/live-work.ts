import type { Audit } from './audit.js';
import { type AssignmentId, type EventOf, OWNER, type WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import type { IdSet } from './sets.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import { type Assignment, Pool, undelivered, type WorkItem } from './work.js';

interface AssignmentRole {
  readonly copyOf?: Audit;
  readonly twin?: Assignment;
  readonly waived?: boolean;
}

/** The work of the current job: what each worker has, what nobody has, and what an audit is deciding. */
export class LiveWork {
  readonly live = new Map<AssignmentId, Assignment>();
  readonly pool = new Pool();
  audits: Audit[] = [];
  /** The next assignment id. */
  #next: AssignmentId = 1;

  constructor(readonly state: RoundState) {}

  get isOwnerBusy(): boolean {
    return [...this.live.values()].some((a) => a.worker === OWNER);
  }

  begin(job: Job): void {
    this.pool.add({ microBatches: job.microBatches, buckets: job.buckets });
  }

  /** The job is over: voids the rest of its work. */
  end(now: number): void {
    for (const a of [...this.live.values()]) this.revoke(a, now);
    this.pool.clear();
    this.audits = [];
  }

  /**
   * The live assignment that a worker's event names, with its job. Undefined if it is not live any more, which an
   * honest worker may not know yet. Undefined too if it was never the worker's own; then the connection is closed.
   */
  assignmentOf(
    event: EventOf<'progress' | 'handed-back' | 'refused' | 'contribution'>,
  ): { readonly job: Job; readonly a: Assignment } | undefined {
    const { worker, assignment: id, now } = event;
    const { members, job, close } = this.state;
    if (!members.has(worker) && worker !== OWNER) return undefined;
    const a = this.live.get(id);
    if (!Number.isInteger(id) || id < 1 || id >= this.#next || (a !== undefined && a.worker !== worker)) {
      close(worker, 'LT_CLUSTER_IMPOSSIBLE', `assignment ${id} was never its own`, now);
      return undefined;
    }
    return a !== undefined && job !== undefined ? { job, a } : undefined;
  }

  /** `member`: undefined for the owner's adapter. */
  assign(
    job: Job,
    member: Member | undefined,
    microBatches: IdSet,
    buckets: IdSet,
    role: AssignmentRole,
    now: number,
  ): Assignment {
    const a: Assignment = {
      id: this.#next++,
      worker: member?.id ?? OWNER,
      person: member?.person,
      microBatches: sets.copySet(microBatches),
      count: sets.countOf(microBatches),
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
      audit: undefined,
      copyOf: role.copyOf,
    };
    this.live.set(a.id, a);
    member?.take(a, now);
    this.state.emit({
      type: 'assign',
      worker: a.worker,
      assignment: a.id,
      kind: job.kind,
      step: job.step,
      microBatches: sets.copySet(microBatches),
      buckets: sets.copySet(buckets),
    });
    return a;
  }

  /** Takes an assignment from its worker and tells the worker. Does not open its work again. */
  revoke(a: Assignment, now: number): void {
    this.drop(a, now);
    this.state.emit({ type: 'revoke', worker: a.worker, assignment: a.id });
  }

  drop(a: Assignment, now: number): void {
    this.live.delete(a.id);
    this.state.members.get(a.worker)?.drop(a, now);
    if (a.twin !== undefined) a.twin.twin = undefined;
    a.twin = undefined;
  }

  /** Opens the undelivered work of a dropped assignment. */
  reopen(job: Job, a: Assignment): void {
    if (a.copyOf === undefined) this.open(job, a.microBatches, undelivered(a), { waived: a.waived });
  }

  /** Opens work that nobody has and that is not inside. Opening it twice changes nothing. */
  open(job: Job, microBatches: IdSet, buckets: IdSet, how: { from?: WorkerId; waived?: boolean } = {}): void {
    const lacking = [...sets.membersOf(buckets)].filter((b) => !this.#isCovered(job, microBatches, b));
    const rest = sets.copySet(microBatches);
    const item = { buckets: sets.setOf(job.totalBuckets, lacking), from: how.from, waived: how.waived || undefined };
    for (const claim of job.claims) {
      const claimed = rest.map((word, w) => word & (claim.microBatches[w] ?? 0));
      sets.removeAll(rest, claimed);
      this.pool.add({ ...item, microBatches: claimed, claim, from: undefined });
    }
    this.pool.add({ ...item, microBatches: rest });
  }

  #isCovered(job: Job, microBatches: IdSet, bucket: number): boolean {
    if (!job.lacksAll(bucket, microBatches) || this.isAudited(microBatches, bucket)) return true;
    if (this.pool.has(microBatches, bucket)) return true;
    return [...this.live.values()].some(
      (a) =>
        a.copyOf === undefined &&
        sets.has(a.buckets, bucket) &&
        !sets.has(a.delivered, bucket) &&
        sets.intersects(a.microBatches, microBatches),
    );
  }

  /** Whether an audit is deciding about any of these micro-batches in the bucket. */
  isAudited(microBatches: IdSet, bucket: number): boolean {
    return this.audits.some((t) => t.isOpen(bucket) && sets.intersects(t.microBatches, microBatches));
  }

  /** Takes an item out of the pool. */
  take(item: WorkItem): void {
    this.pool.delete(item);
  }
}
