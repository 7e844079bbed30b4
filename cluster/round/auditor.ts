import { Trial, type Vote } from './audit.js';
import type { Dealer } from './dealer.js';
import type { WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import type { Person } from './person.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import type { Assignment } from './work.js';

export const FOUND_WRONG = 'workers of its address were found wrong';

/** Draws what is audited, deals the copies, and names who was wrong. */
export class Auditor {
  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** Whether a copy is lacking that nobody computes. */
  get lacksCopies(): boolean {
    const { live } = this.dealer.work;
    return this.dealer.work.trials.some(
      (t) =>
        !live.has(t.assignment.id) &&
        t.checking === 0 &&
        t.open().length > 0 &&
        ![...live.values()].some((a) => a.copyOf === t),
    );
  }

  /**
   * At the first contribution of an assignment, which is here: whether it is audited. What a person that was found wrong
   * contributes is audited always. The unused part of `draw` chooses who confirms.
   */
  draw(job: Job, a: Assignment, draw: number, now: number): void {
    const { audit } = this.state.config;
    const member = this.state.members.get(a.worker);
    if (a.drawn) return;
    a.drawn = true;
    if (job.kind !== 'step' || a.waived || member === undefined) return;
    if (draw >= audit && member.person.wrong.size === 0) return;
    const { bitClass, person } = member;
    const others = [...this.state.members.values()].some(
      (m) =>
        m.bitClass === bitClass &&
        m.person !== person &&
        m.person.wrong.size === 0 &&
        (this.dealer.manners.mayConfirm(m, now) || this.dealer.manners.isOnTrial(m)),
    );
    if (!others && !this.#ownerConfirms(bitClass)) {
      this.state.note({ note: 'unaudited', worker: a.worker });
      return;
    }
    const chance = draw < audit ? draw / audit : (draw - audit) / (1 - audit);
    a.trial = new Trial(a, sets.copySet(a.microBatches), bitClass, chance, job.totalBuckets);
    this.dealer.work.trials.push(a.trial);
  }

  #ownerConfirms(bitClass: string): boolean {
    return this.state.ownerAble && bitClass === this.state.config.ownerBitClass;
  }

  /** What was sent of a bucket cannot be used, and nobody confirms it: it is lacking again. */
  drop(job: Job, trial: Trial, bucket: number, waived: boolean): void {
    for (const vote of trial.votesOf(bucket)) this.dealer.resolve(job, vote.assignment, false);
    trial.drop(bucket);
    this.dealer.work.open(job, trial.microBatches, sets.setOf(job.totalBuckets, [bucket]), { waived });
  }

  settle(job: Job, now: number): void {
    for (const trial of [...this.dealer.work.trials]) this.#settle(job, trial, now);
  }

  /** Nothing that a worker can observe depends on the audit before the whole assignment is here, or its rest is not to come. */
  #settle(job: Job, trial: Trial, now: number): void {
    const { live } = this.dealer.work;
    if (live.has(trial.assignment.id) || trial.checking > 0) return;
    const copies = [...live.values()].filter((a) => a.copyOf === trial);
    const open = trial.open();
    if (open.length === 0) {
      this.dealer.work.trials = this.dealer.work.trials.filter((t) => t !== trial);
      for (const copy of copies) this.dealer.giveUp(job, copy, now);
      return;
    }
    if (copies.some((copy) => !copy.isLate)) return;
    // What needs a second word is asked for first: that may end the dispute about the rest.
    const calm = open.filter((b) => !trial.isDisputed(b));
    const buckets = calm.length > 0 ? calm : open;
    this.#dealCopy(job, trial, buckets, calm.length === 0, now);
  }

  #dealCopy(job: Job, trial: Trial, buckets: readonly number[], disputed: boolean, now: number): void {
    const may = (person: Person | undefined) => buckets.some((b) => trial.mayConfirm(person, b));
    const byOwner = this.#ownerConfirms(trial.bitClass) && may(undefined);
    const suspect = (trial.assignment.person?.wrong.size ?? 0) > 0;
    const helpers = [...this.state.members.values()].filter((m) => m.bitClass === trial.bitClass && may(m.person));
    const persons = this.#ableOf(trial, byOwner && (disputed || suspect) ? [] : helpers, now);
    const options: (Person | 'owner')[] = [...(byOwner ? ['owner' as const] : []), ...persons.keys()];
    if (options.length === 0) {
      this.#nobody(job, trial, buckets, disputed, helpers, now);
      return;
    }
    if (trial.chosen === undefined || !options.includes(trial.chosen)) {
      const place = trial.chance * options.length;
      trial.chosen = options[Math.floor(place)];
      trial.chance = place - Math.floor(place);
    }
    const { chosen } = trial;
    const person = chosen === 'owner' ? undefined : chosen;
    if (person === undefined && this.dealer.work.isOwnerBusy) return;
    const mine = buckets.filter((b) => trial.mayConfirm(person, b));
    trial.chosen = undefined;
    trial.dealtTo(person);
    const member = person && persons.get(person);
    this.dealer.work.assign(
      job,
      member,
      trial.microBatches,
      sets.setOf(job.totalBuckets, mine),
      { copyOf: trial },
      now,
    );
  }

  /** Of each person that can confirm now, the worker that will have done it first. */
  #ableOf(trial: Trial, helpers: readonly Member[], now: number): Map<Person, Member> {
    const { manners } = this.dealer;
    const able = helpers.filter((m) => (!m.refuses || m.forced) && manners.mayConfirm(m, now));
    // More than one micro-batch is for the proven.
    const chosen = sets.countOf(trial.microBatches) > 1 ? able.filter((m) => m.proven || m.forced) : able;
    const persons = new Map<Person, Member>();
    for (const m of chosen) {
      const best = persons.get(m.person);
      if (best === undefined || this.dealer.loadMs(m) < this.dealer.loadMs(best)) persons.set(m.person, m);
    }
    return persons;
  }

  /**
   * Nobody can compute a copy now, and only `later` after a while: what is at work in time will be free. If votes
   * differ, the run waits for those too who are fenced off, until they show no life when their back-off ends.
   */
  #nobody(
    job: Job,
    trial: Trial,
    buckets: readonly number[],
    disputed: boolean,
    later: readonly Member[],
    now: number,
  ): void {
    const copies = [...this.dealer.work.live.values()].filter((a) => a.copyOf === trial);
    if (copies.some((copy) => now < copy.hopelessAt)) return;
    for (const copy of copies) this.dealer.giveUp(job, copy, now);
    if (disputed) {
      if (this.dealer.isStuck && this.dealer.manners.force(later, () => 0, now) !== undefined) {
        this.#settle(job, trial, now);
        return;
      }
      if (later.some((m) => m.ready && (m.fencedAt === undefined || m.aliveSinceFence || now < m.barredUntil))) return;
      const [bucket] = buckets;
      this.state.halt({ why: 'audit', bucket, workers: trial.votesOf(bucket).map((v) => v.worker) });
      return;
    }
    if (later.some((m) => this.dealer.manners.isOnTrial(m))) {
      // Newcomers that each wait for another's word would wait for ever.
      if (this.dealer.isStuck && this.dealer.manners.force(later, () => 0, now) !== undefined)
        this.#settle(job, trial, now);
      return;
    }
    this.state.note({ note: 'unaudited', worker: trial.assignment.worker });
    for (const b of buckets) this.drop(job, trial, b, true);
  }

  /**
   * A worker's sum was wrong, by the word of the owner's adapter or of two others. Its person is on probation from now
   * on, and its next connections wait for a back-off.
   */
  foundWrong({ worker, person }: Vote, bucket: number, reason: string, now: number): void {
    if (person === undefined || person.wrong.has(worker)) return;
    person.wrong.add(worker);
    this.state.note({ note: 'audit', worker, bucket, reason });
    this.#mark(worker, person, reason);
    this.state.close(worker, 'LT_CLUSTER_AUDIT', reason, now);
    this.dealer.manners.raise(person, now);
    this.shutOut(now);
  }

  /**
   * Of a person whose connections were found wrong twice, nothing is taken that the owner's adapter cannot confirm. Where
   * it can, the person stays: others behind the same address may be honest.
   */
  isShutOut({ wrong }: Person, bitClass: string): boolean {
    return wrong.size >= 2 && !this.#ownerConfirms(bitClass);
  }

  /** Ends the connections of whoever is shut out. */
  shutOut(now: number): void {
    for (const m of [...this.state.members.values()])
      if (this.isShutOut(m.person, m.bitClass)) this.state.close(m.id, 'LT_CLUSTER_AUDIT', FOUND_WRONG, now);
  }

  /** Something of the person is used in `step`, and nobody who is trusted has confirmed it. */
  unconfirmed(worker: WorkerId, person: Person, step: number): void {
    if (step < (person.firstUnconfirmed ?? Number.POSITIVE_INFINITY)) {
      person.firstUnconfirmed = step;
      this.state.note({ note: 'contributed', person: person.name, step });
    }
    if (person.wrong.size > 0) this.#mark(worker, person, 'used unconfirmed, of a person that was found wrong');
  }

  /** The run is not known to be exact since the first use of what the person contributed, if there was one. */
  #mark(worker: WorkerId, person: Person, reason: string): void {
    const since = person.firstUnconfirmed;
    if (since === undefined || since >= (person.inexactSince ?? Number.POSITIVE_INFINITY)) return;
    person.inexactSince = since;
    this.state.note({ note: 'inexact', worker, since, reason });
  }
}
