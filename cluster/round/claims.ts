import type { Dealer } from './dealer.js';
import { type EventOf, OWNER, type WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Person } from './person.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import type { Assignment, Claim, WorkItem } from './work.js';

/**
 * Refusals. A refusal is a claim, not a fact: two messages must not end a run. If the owner's adapter can compute, it
 * computes the micro-batches, and its result is believed. Otherwise another person's worker does: if it refuses too,
 * the claim is believed. If there is only one person, it must refuse twice.
 */
export class Claims {
  /** Refuted refusals, punished at the end of the current event. */
  readonly #refuted: { worker: WorkerId; person: Person; claim: Claim }[] = [];

  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** A worker, or the owner's adapter, refuses some of what it was dealt. */
  refused(event: EventOf<'refused'>): void {
    const { worker, microBatches, reason, now } = event;
    const { work } = this.dealer;
    const { job, a } = work.assignmentOf(event) ?? {};
    if (job === undefined || a === undefined) return;
    if (sets.isEmpty(microBatches) || !sets.isSubset(microBatches, a.microBatches)) {
      this.state.close(worker, 'LT_CLUSTER_IMPOSSIBLE', 'it refuses what it was not dealt', now);
      return;
    }
    const { person, twin } = a;
    if (person === undefined) {
      const [microBatch] = sets.membersOf(microBatches);
      work.drop(a, now);
      this.#believe(job, microBatch, [OWNER], reason, now);
      return;
    }
    this.state.counters.refused++;
    this.state.note({ note: 'refuse', worker, reason });
    const member = this.state.members.get(worker);
    if (member !== undefined) member.refuses = true;
    job.notDone(person, microBatches);
    this.#record(job, microBatches, worker, person, reason);
    work.drop(a, now);
    a.copyOf?.refusedBy(person);
    work.reopen(job, a);
    // The twin's work is checked as well before it is used.
    if (twin !== undefined) {
      work.revoke(twin, now);
      work.reopen(job, twin);
    }
    this.apply(job, now);
  }

  /** Acts on a claim that has become credible. */
  apply(job: Job, now: number): void {
    const claim = this.#believed(job);
    if (claim === undefined) return;
    const [microBatch] = sets.membersOf(claim.microBatches);
    const workers = [...new Set(claim.by.map((one) => one.worker))];
    this.#believe(job, microBatch, workers, claim.reason, now);
  }

  /** A micro-batch is refused for good. */
  #believe(job: Job, microBatch: number, workers: readonly WorkerId[], reason: string, now: number): void {
    if (job.kind === 'step') {
      this.state.halt({ why: 'refused', microBatch, workers, reason });
      return;
    }
    job.finite = false;
    this.dealer.work.end(now);
  }

  #record(job: Job, microBatches: sets.IdSet, worker: WorkerId, person: Person, reason: string): void {
    let claim = job.claims.find((c) => sets.intersects(c.microBatches, microBatches));
    if (claim === undefined) {
      claim = { microBatches: sets.setOf(job.count, sets.membersOf(microBatches)), by: [], reason };
      job.claims.push(claim);
    }
    claim.by.push({ worker, person });
    claim.reason = reason;
  }

  /** The first credible claim, if any. */
  #believed(job: Job): Claim | undefined {
    if (this.state.ownerAble) return undefined;
    return job.claims.find(({ by }) => {
      const [{ person }] = by;
      if (by.some((one) => one.person !== person)) return true;
      const others = [...this.state.members.values()].some((m) => m.person !== person);
      return by.length >= 2 && !others && person.connections > 0;
    });
  }

  /** Deals the whole refused item to the owner's adapter, or to a worker of a person that has not refused it. */
  deal(job: Job, item: WorkItem, claim: Claim, now: number): void {
    const { eligibility } = this.dealer;
    if (this.state.ownerAble) {
      if (this.dealer.work.isOwnerBusy) return;
      this.dealer.work.take(item);
      this.dealer.work.assign(job, undefined, item.microBatches, item.buckets, {}, now);
      return;
    }
    const all = [...this.state.members.values()];
    const uninvolved = all.filter((m) => !claim.by.some(({ person }) => person === m.person));
    const allowed = uninvolved.length > 0 ? uninvolved : all;
    let able: readonly (typeof all)[number][] = allowed.filter(
      (m) => (!m.refuses || m.forced) && eligibility.isAble(m, now),
    );
    if (able.length === 0) able = this.dealer.force(job, item.microBatches, allowed, now);
    if (able.length === 0) return;
    const loads = able.map((m) => this.dealer.loadMs(m) + (m.proven ? 0 : 1e9));
    const member = able[loads.indexOf(Math.min(...loads))];
    this.dealer.work.take(item);
    const a = this.dealer.work.assign(job, member, item.microBatches, item.buckets, { waived: item.waived }, now);
    a.exhausted = true;
  }

  /** Every bucket of an assignment was used: refutes claims whose micro-batches it covers. */
  computed(job: Job, a: Assignment): void {
    for (const claim of [...job.claims]) {
      if (!sets.isSubset(claim.microBatches, a.microBatches)) continue;
      if (this.state.ownerAble && a.worker !== OWNER) continue;
      job.claims = job.claims.filter((c) => c !== claim);
      for (const worker of new Set(claim.by.map((one) => one.worker))) {
        const person = claim.by.find((one) => one.worker === worker)?.person;
        if (person !== undefined && person !== a.person) this.#refuted.push({ worker, person, claim });
      }
    }
  }

  /** Punishes the workers and persons of refuted refusals. */
  punish(job: Job, now: number): void {
    for (const { worker, person, claim } of this.#refuted.splice(0)) {
      const [microBatch] = sets.membersOf(claim.microBatches);
      this.state.note({ note: 'refuted', worker, microBatch });
      person.refuted = person.refuted.filter((step) => step > job.step - this.state.policy.refutedSteps);
      person.refuted.push(job.step);
      const member = this.state.members.get(worker);
      if (person.refuted.length >= 2) {
        this.dealer.eligibility.raise(person, now);
        this.state.close(worker, 'LT_CLUSTER_MANNERS', 'it refused what others could compute, twice', now);
      } else if (member !== undefined) this.dealer.fenceOff(job, member, 'it refused what others could compute', now);
      else this.dealer.eligibility.raise(person, now);
    }
  }
}
