import type { CloseCode } from './actions.js';
import { FOUND_WRONG } from './auditor.js';
import type { Dealer } from './dealer.js';
import { type EventOf, OWNER, type WorkerId } from './events.js';
import type { Job } from './job.js';
import { Member } from './member.js';
import { People } from './person.js';
import type { Close, RoundState } from './state.js';
import type { Assignment } from './work.js';

/** Joins and departures of workers, and the failure of the owner's adapter. Their work goes to others. */
export class Roster {
  readonly #people: People;

  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {
    this.#people = new People(state.policy, state.config.firstSteps);
  }

  joined({ worker, bitClass, person: name, now }: EventOf<'worker-joined'>): void {
    const { state } = this;
    const { ownerBitClass, exact, parameterBuckets } = state.config;
    if (worker === OWNER) throw new RangeError("worker 0 is the owner's adapter");
    if (state.members.has(worker)) throw new RangeError(`worker ${worker} has joined already`);
    const person = this.#people.get(name, now);
    // Checked before the worker can make the run mixed.
    if (this.dealer.auditor.isShutOut(person, bitClass)) {
      this.#refuse(worker, 'LT_CLUSTER_AUDIT', FOUND_WRONG);
      return;
    }
    if (bitClass !== ownerBitClass) {
      if (exact) {
        const reason = `its bit class ${bitClass} is not the owner's, ${ownerBitClass}`;
        this.#refuse(worker, 'LT_CLUSTER_BIT_CLASS', reason);
        return;
      }
      state.note({ note: 'mixed', worker, bitClass });
    }
    const member = new Member(worker, person, bitClass, parameterBuckets, state.policy, now);
    person.connections++;
    member.delivery.committed(state.version);
    state.members.set(worker, member);
    state.note({ note: 'join', worker, bitClass });
    state.emit({ type: 'admit', worker, version: state.version });
  }

  #refuse(worker: WorkerId, code: CloseCode, reason: string): void {
    this.state.note({ note: 'refuse', worker, reason });
    this.state.emit({ type: 'close', worker, code, reason });
  }

  left(worker: WorkerId, reason: string, now: number): void {
    const { members, job } = this.state;
    const member = members.get(worker);
    if (member === undefined) return;
    members.delete(worker);
    member.person.connections--;
    this.state.note({ note: 'leave', worker, reason });
    if (job === undefined) return;
    if (member.live.length > 0) this.dealer.eligibility.left(job, member, now);
    this.#passOn(job, member.live, now);
  }

  readonly close: Close = (worker, code, reason, now) => {
    if (!this.state.members.has(worker)) return;
    if (code === 'LT_CLUSTER_IMPOSSIBLE') this.state.counters.impossible++;
    this.#refuse(worker, code, reason);
    this.left(worker, reason, now);
  };

  /** The owner's adapter computes nothing more. */
  ownerUnable(now: number): void {
    this.state.ownerAble = false;
    this.dealer.auditor.shutOut(now);
    const { job } = this.state;
    if (job === undefined) return;
    const own = [...this.dealer.work.live.values()].filter((a) => a.worker === OWNER);
    this.#passOn(job, own, now);
  }

  /** Opens the assignments of a worker that is gone. */
  #passOn(job: Job, assignments: readonly Assignment[], now: number): void {
    const { work, claims } = this.dealer;
    for (const a of assignments) {
      work.drop(a, now);
      work.reopen(job, a);
    }
    claims.apply(job, now);
  }
}
