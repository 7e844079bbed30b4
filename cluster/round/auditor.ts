import { Audit, type Vote } from './audit.js';
import type { Dealer } from './dealer.js';
import type { WorkerId } from './events.js';
import type { Job } from './job.js';
import type { Member } from './member.js';
import type { Person } from './person.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import type { Assignment } from './work.js';

export const FOUND_WRONG = 'workers of its address were found wrong';

/** Draws which assignments are audited, deals the copies, and names workers that were wrong. */
export class Auditor {
  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** Whether an audit needs a copy that nobody computes. */
  get lacksCopies(): boolean {
    const { live } = this.dealer.work;
    return this.dealer.work.audits.some(
      (t) =>
        !live.has(t.assignment.id) &&
        t.checking === 0 &&
        t.open().length > 0 &&
        ![...live.values()].some((a) => a.copyOf === t),
    );
  }

  /**
   * Decides at an assignment's first contribution whether it is audited. Contributions of a person that was found wrong
   * are always audited. The unused part of `draw` chooses who confirms.
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
        (this.dealer.eligibility.mayConfirm(m, now) || this.dealer.eligibility.isProving(m)),
    );
    if (!others && !this.#ownerConfirms(bitClass)) {
      this.state.note({ note: 'unaudited', worker: a.worker });
      return;
    }
    const chance = draw < audit ? draw / audit : (draw - audit) / (1 - audit);
    a.audit = new Audit(a, sets.copySet(a.microBatches), bitClass, chance, job.totalBuckets);
    this.dealer.work.audits.push(a.audit);
  }

  #ownerConfirms(bitClass: string): boolean {
    return this.state.ownerAble && bitClass === this.state.config.ownerBitClass;
  }

  /** The contribution to a bucket cannot be used, or nobody can confirm it: the bucket is lacking again. */
  drop(job: Job, audit: Audit, bucket: number, waived: boolean): void {
    for (const vote of audit.votesOf(bucket)) this.dealer.resolve(job, vote.assignment, false);
    audit.drop(bucket);
    this.dealer.work.open(job, audit.microBatches, sets.setOf(job.totalBuckets, [bucket]), { waived });
  }

  settle(job: Job, now: number): void {
    for (const audit of [...this.dealer.work.audits]) this.#settle(job, audit, now);
  }

  /**
   * Waits until the whole assignment has arrived, or its rest never will: before that, nothing a worker can observe may
   * depend on the audit.
   */
  #settle(job: Job, audit: Audit, now: number): void {
    const { live } = this.dealer.work;
    if (live.has(audit.assignment.id) || audit.checking > 0) return;
    const copies = [...live.values()].filter((a) => a.copyOf === audit);
    const open = audit.open();
    if (open.length === 0) {
      this.dealer.work.audits = this.dealer.work.audits.filter((t) => t !== audit);
      for (const copy of copies) this.dealer.giveUp(job, copy, now);
      return;
    }
    if (copies.some((copy) => !copy.isLate)) return;
    // Buckets without a dispute come first: their votes may settle the disputed ones.
    const calm = open.filter((b) => !audit.isDisputed(b));
    const buckets = calm.length > 0 ? calm : open;
    this.#dealCopy(job, audit, buckets, calm.length === 0, now);
  }

  #dealCopy(job: Job, audit: Audit, buckets: readonly number[], disputed: boolean, now: number): void {
    const may = (person: Person | undefined) => buckets.some((b) => audit.mayConfirm(person, b));
    const byOwner = this.#ownerConfirms(audit.bitClass) && may(undefined);
    const suspect = (audit.assignment.person?.wrong.size ?? 0) > 0;
    const helpers = [...this.state.members.values()].filter((m) => m.bitClass === audit.bitClass && may(m.person));
    const persons = this.#ableOf(audit, byOwner && (disputed || suspect) ? [] : helpers, now);
    const options: (Person | 'owner')[] = [...(byOwner ? ['owner' as const] : []), ...persons.keys()];
    if (options.length === 0) {
      this.#withoutHelper(job, audit, buckets, disputed, helpers, now);
      return;
    }
    if (audit.chosen === undefined || !options.includes(audit.chosen)) {
      const position = audit.chance * options.length;
      audit.chosen = options[Math.floor(position)];
      audit.chance = position - Math.floor(position);
    }
    const { chosen } = audit;
    const person = chosen === 'owner' ? undefined : chosen;
    if (person === undefined && this.dealer.work.isOwnerBusy) return;
    const mine = buckets.filter((b) => audit.mayConfirm(person, b));
    audit.chosen = undefined;
    audit.dealtTo(person);
    const member = person && persons.get(person);
    this.dealer.work.assign(
      job,
      member,
      audit.microBatches,
      sets.setOf(job.totalBuckets, mine),
      { copyOf: audit },
      now,
    );
  }

  /** For each person that can confirm now, the worker that will be done first. */
  #ableOf(audit: Audit, helpers: readonly Member[], now: number): Map<Person, Member> {
    const { eligibility } = this.dealer;
    const able = helpers.filter((m) => (!m.refuses || m.forced) && eligibility.mayConfirm(m, now));
    // Only proven workers get more than one micro-batch.
    const chosen = sets.countOf(audit.microBatches) > 1 ? able.filter((m) => m.proven || m.forced) : able;
    const persons = new Map<Person, Member>();
    for (const m of chosen) {
      const best = persons.get(m.person);
      if (best === undefined || this.dealer.loadMs(m) < this.dealer.loadMs(best)) persons.set(m.person, m);
    }
    return persons;
  }

  /**
   * Goes on with an audit for which nobody can compute a copy now. Workers that are proving themselves may be able to
   * after a while, so the audit waits for them. If there are none, the work is dealt again and is not audited. If votes
   * differ, the audit also waits for fenced workers, until their back-off ends without a sign of life. Then the run
   * halts. `helpers`: the workers that could give a vote.
   */
  #withoutHelper(
    job: Job,
    audit: Audit,
    buckets: readonly number[],
    disputed: boolean,
    helpers: readonly Member[],
    now: number,
  ): void {
    const copies = [...this.dealer.work.live.values()].filter((a) => a.copyOf === audit);
    if (copies.some((copy) => now < copy.hopelessAt)) return;
    for (const copy of copies) this.dealer.giveUp(job, copy, now);
    if (disputed) {
      if (this.dealer.isStuck && this.dealer.eligibility.force(helpers, () => 0, now) !== undefined) {
        this.#settle(job, audit, now);
        return;
      }
      if (helpers.some((m) => m.ready && (m.fencedAt === undefined || m.aliveSinceFence || now < m.barredUntil)))
        return;
      const [bucket] = buckets;
      this.state.halt({ why: 'audit', bucket, workers: audit.votesOf(bucket).map((v) => v.worker) });
      return;
    }
    if (helpers.some((m) => this.dealer.eligibility.isProving(m))) {
      // Newcomers that wait for each other's votes would wait for ever.
      if (this.dealer.isStuck && this.dealer.eligibility.force(helpers, () => 0, now) !== undefined)
        this.#settle(job, audit, now);
      return;
    }
    this.state.note({ note: 'unaudited', worker: audit.assignment.worker });
    for (const b of buckets) this.drop(job, audit, b, true);
  }

  /**
   * The owner's adapter, or two other persons, found a worker's sum wrong. From now on its person's contributions are
   * always audited, and its next connections wait for a back-off.
   */
  foundWrong({ worker, person }: Vote, bucket: number, reason: string, now: number): void {
    if (person === undefined || person.wrong.has(worker)) return;
    person.wrong.add(worker);
    this.state.note({ note: 'audit', worker, bucket, reason });
    this.#mark(worker, person, reason);
    this.state.close(worker, 'LT_CLUSTER_AUDIT', reason, now);
    this.dealer.eligibility.raise(person, now);
    this.shutOut(now);
  }

  /**
   * A person whose connections were found wrong twice is shut out, unless the owner's adapter can confirm its work:
   * others behind the same address may be honest.
   */
  isShutOut({ wrong }: Person, bitClass: string): boolean {
    return wrong.size >= 2 && !this.#ownerConfirms(bitClass);
  }

  /** Ends the connections of persons that are shut out. */
  shutOut(now: number): void {
    for (const m of [...this.state.members.values()])
      if (this.isShutOut(m.person, m.bitClass)) this.state.close(m.id, 'LT_CLUSTER_AUDIT', FOUND_WRONG, now);
  }

  /** A contribution of the person is used in `step`, and nobody trusted has confirmed it. */
  unconfirmed(worker: WorkerId, person: Person, step: number): void {
    if (step < (person.firstUnconfirmed ?? Number.POSITIVE_INFINITY)) {
      person.firstUnconfirmed = step;
      this.state.note({ note: 'contributed', person: person.name, step });
    }
    if (person.wrong.size > 0) this.#mark(worker, person, 'used unconfirmed, of a person that was found wrong');
  }

  /** Marks the run as not known to be exact since the first unconfirmed use of the person's work, if there was one. */
  #mark(worker: WorkerId, person: Person, reason: string): void {
    const since = person.firstUnconfirmed;
    if (since === undefined || since >= (person.inexactSince ?? Number.POSITIVE_INFINITY)) return;
    person.inexactSince = since;
    this.state.note({ note: 'inexact', worker, since, reason });
  }
}
