import type { Job } from './job.js';
import type { Member } from './member.js';
import type { Person } from './person.js';
import type { IdSet } from './sets.js';
import type { RoundState } from './state.js';

/**
 * Decides which workers may be dealt work. A worker that has proved itself gets assignments by its speed. Any other
 * (new, or fenced lately) gets one micro-batch, and nothing more until that was used. Work that was not done costs the
 * connection and the person a growing back-off. The back-off yields only if nobody else can work.
 */
export class Eligibility {
  #forcedAt = Number.NEGATIVE_INFINITY;

  constructor(readonly state: RoundState) {}

  isAble(m: Member, now: number): boolean {
    if (!m.ready || m.fencedAt !== undefined) return false;
    if (m.live.some((a) => a.isLate)) return false;
    if (m.proven) return true;
    if (m.forced) return m.live.length === 0;
    return m.isIdle && this.#mayProve(m, now);
  }

  /** Whether it may compute a copy for an audit: also while its own work waits for another's copy. */
  mayConfirm(m: Member, now: number): boolean {
    if (this.isAble(m, now)) return true;
    return m.ready && m.fencedAt === undefined && m.live.length === 0 && now >= m.person.barredUntil;
  }

  /**
   * Whether its person's back-off is over. After a back-off, the person's connections prove themselves one at a time.
   */
  #mayProve(m: Member, now: number): boolean {
    return now >= m.person.barredUntil && (m.person.levelAt(now) === 0 || !this.#isProving(m.person));
  }

  able(now: number): Member[] {
    return [...this.state.members.values()].filter((m) => this.isAble(m, now));
  }

  /** Whether an unproven connection of the person has work. */
  #isProving(person: Person): boolean {
    return [...this.state.members.values()].some((m) => m.person === person && !m.proven && !m.isIdle);
  }

  /** Whether it is proving itself; it gets assignments by its speed afterwards. */
  isProving(m: Member): boolean {
    return m.ready && m.fencedAt === undefined && !m.proven && !m.isIdle && !m.live.some((a) => a.isLate);
  }

  #backOffMs(level: number, longestMs: number): number {
    const first = Math.max(this.state.policy.backOffMs, 2 * (this.state.usualStepMs ?? 0));
    return Math.min(first * 2 ** Math.min(level - 1, 30), Math.max(longestMs, first));
  }

  /**
   * It has not done what it was dealt. A worker that has contributed for a while costs its person nothing: machines
   * fail.
   */
  fence(job: Job, m: Member, now: number): void {
    const settled = m.goodJobs >= this.state.policy.settledSteps;
    if (!settled) this.raise(m.person, now, m);
    const level = Math.max(m.level + 1, settled ? 0 : m.person.levelAt(now));
    m.fence(now, now + this.#backOffMs(level, this.state.policy.longestBackOffMs));
    for (const a of m.live) if (a.remaining > 0 && a.copyOf === undefined) job.notDone(m.person, a.microBatches);
  }

  /** Its connection ended while it had work, or because its payload for `spoiled` was bad. */
  left(job: Job, m: Member, now: number, spoiled?: IdSet): void {
    if (m.goodJobs >= this.state.policy.settledSteps) return;
    if (spoiled === undefined && (m.goodJobs > 0 || m.done > 0)) {
      m.person.bar(now + this.state.policy.leaveMs);
      return;
    }
    this.raise(m.person, now, m);
    if (spoiled !== undefined) job.notDone(m.person, spoiled);
    for (const a of m.live) if (a.copyOf === undefined) job.notDone(m.person, a.microBatches);
  }

  /**
   * The person has cost the run something, through its connection `by` if given. If another connection of the person
   * has proved itself, the next one may be as honest, so its back-off is short.
   */
  raise(person: Person, now: number, by?: Member): void {
    const { longestBackOffMs, neighbourBackOffMs } = this.state.policy;
    const isShared = [...this.state.members.values()].some((m) => m !== by && m.person === person && m.proven);
    person.raise(now, (level) => this.#backOffMs(level, isShared ? neighbourBackOffMs : longestBackOffMs));
  }

  /** Ends expired back-offs of workers that are alive. */
  lift(now: number): void {
    for (const m of this.state.members.values()) if (m.aliveSinceFence && now >= m.barredUntil) m.fencedAt = undefined;
  }

  /** The next time after `now` at which a back-off of a connection or a person ends. */
  wakeAt(now: number): number {
    let at = Number.POSITIVE_INFINITY;
    for (const m of this.state.members.values()) {
      const until = m.fencedAt !== undefined ? m.barredUntil : m.proven ? 0 : m.person.barredUntil;
      if (until > now) at = Math.min(at, until);
    }
    const forced = this.#forcedAt + this.state.policy.necessityMs;
    return forced > now ? Math.min(at, forced) : at;
  }

  /**
   * No eligible worker can take the job's work: makes one of `members` eligible after all, at a bounded rate. Chooses
   * among those that are alive and idle: first those that refuse nothing, then the fewest failures, then the earliest
   * end of a back-off.
   */
  force(members: readonly Member[], failures: (m: Member) => number, now: number): Member | undefined {
    if (now < this.#forcedAt + this.state.policy.necessityMs) return undefined;
    const rank = (m: Member) => [
      m.refuses ? 1 : 0,
      failures(m),
      Math.max(m.fencedAt === undefined ? 0 : m.barredUntil, m.proven ? 0 : m.person.barredUntil),
    ];
    const [one] = members
      .filter((m) => m.ready && m.live.length === 0 && (m.fencedAt === undefined || m.aliveSinceFence))
      .map((m) => ({ m, rank: rank(m) }))
      .sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1] || a.rank[2] - b.rank[2]);
    if (one === undefined) return undefined;
    this.#forcedAt = now;
    if (!this.isAble(one.m, now)) this.state.note({ note: 'unfence', worker: one.m.id });
    one.m.fencedAt = undefined;
    one.m.forced = true;
    return one.m;
  }
}
