import type { Dealer } from './dealer.js';
import type { EventOf } from './events.js';
import { type Job, MOST_FAILURES } from './job.js';
import { handBackCount, type WorkerLoad } from './load-balance.js';
import type { Member } from './member.js';
import * as sets from './sets.js';
import type { RoundState } from './state.js';
import type { Assignment } from './work.js';

/**
 * Lets idle workers take over what others have not begun. A worker is asked to hand it back, and may answer with less.
 */
export class HandBacks {
  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  /** Asks busy workers for what idle workers would finish first. */
  ask(job: Job, now: number): void {
    const { dealer, state } = this;
    if (dealer.hasOpenWork) return;
    const asked = [...dealer.work.live.values()].filter((a) => a.asked !== undefined && !a.isLate).length;
    const idle = dealer.eligibility.able(now).filter((m) => m.isIdle && !m.refuses);
    for (const idleMember of idle.slice(asked)) {
      const late = [...state.members.values()].filter((m) => this.#reclaimable(m) !== undefined);
      const loads = dealer.loads(late);
      const latest = loads.reduce((best, load, i) => (best < 0 || load.loadMs > loads[best].loadMs ? i : best), -1);
      const a = latest < 0 ? undefined : this.#reclaimable(late[latest]);
      if (a === undefined) return;
      this.#askOf(job, a, loads[latest], idleMember);
    }
  }

  #askOf(job: Job, a: Assignment, late: WorkerLoad, idle: Member): void {
    const [load] = this.dealer.loads([idle]);
    const most = handBackCount(a.count - a.begun, late, load, this.state.policy.overheadMs);
    if (most === 0) return;
    const count = idle.proven ? most : 1;
    const last = sets.copySet(a.microBatches);
    sets.takeFirst(last, a.count - count);
    if (job.failuresOf(idle.person, last) >= MOST_FAILURES) return;
    a.asked = last;
    this.state.emit({ type: 'hand-back', worker: a.worker, assignment: a.id, microBatches: sets.copySet(last) });
  }

  /** The worker's last assignment from which something can be asked back. */
  #reclaimable(member: Member): Assignment | undefined {
    return member.live.findLast(
      (a) => !a.fixed && a.asked === undefined && !a.exhausted && a.copyOf === undefined && a.begun < a.count,
    );
  }

  /** A worker has answered, or handed something back unasked. */
  handedBack(event: EventOf<'handed-back'>, ownerUnable: (now: number) => void): void {
    const { worker, microBatches, now } = event;
    const { job, a } = this.dealer.work.assignmentOf(event) ?? {};
    if (job === undefined || a === undefined) return;
    const count = sets.countOf(microBatches);
    if (!sets.isSubset(microBatches, a.microBatches) || (count > 0 && (a.fixed || a.count - count < a.begun))) {
      this.state.close(worker, 'LT_CLUSTER_IMPOSSIBLE', `handed back what it had not, or had begun`, now);
      return;
    }
    if (count > 0) this.state.moved(now);
    this.state.counters.handedBack += count;
    const member = this.state.members.get(worker);
    const isAnswer = a.asked !== undefined && sets.isSubset(microBatches, a.asked);
    if (count === 0 || isAnswer) this.#take(job, a, microBatches, now);
    else if (member !== undefined) this.dealer.fenceOff(job, member, 'it hands back what nobody asked for', now);
    else ownerUnable(now);
  }

  #take(job: Job, a: Assignment, microBatches: sets.IdSet, now: number): void {
    const { work } = this.dealer;
    const count = sets.countOf(microBatches);
    if (a.asked !== undefined && count === 0) a.exhausted = true;
    a.asked = undefined;
    if (count === 0) return;
    if (a.twin !== undefined) {
      // The twin has all of it.
      work.revoke(a, now);
      return;
    }
    sets.removeAll(a.microBatches, microBatches);
    a.count -= count;
    if (a.count === 0) work.drop(a, now);
    work.open(job, microBatches, a.buckets, { from: a.worker, waived: a.waived });
  }
}
