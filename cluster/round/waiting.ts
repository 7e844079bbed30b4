import type { Dealer } from './dealer.js';
import type { Job } from './job.js';
import type { RoundState } from './state.js';

/** What a job waits for. */
type Obstacle = 'workers' | 'min-workers';

/** Decides whether a job may begin, and notes what it waits for: on a change, and at growing intervals. */
export class Waiting {
  #anyStep = false;
  #for: Obstacle | undefined;

  constructor(
    readonly state: RoundState,
    readonly dealer: Dealer,
  ) {}

  mayBegin(job: Job): boolean {
    return this.#obstacle(job) === undefined;
  }

  began(job: Job): void {
    this.#anyStep ||= job.kind === 'step';
  }

  #obstacle(job: Job): Obstacle | undefined {
    if (this.#anyStep || job.kind !== 'step') return undefined;
    const ready = [...this.state.members.values()].filter((m) => m.ready).length;
    if (ready >= this.state.config.minWorkers) return undefined;
    return ready === 0 ? 'workers' : 'min-workers';
  }

  /** Time that the job waits for its workers before it names them. */
  get #patienceMs(): number {
    const { awaitedMs, awaitedSteps } = this.state.policy;
    return this.state.awaitedMs ?? Math.max(awaitedMs, awaitedSteps * (this.state.usualStepMs ?? 0));
  }

  /** When the awaited workers are named if nothing happens. */
  get wakeAt(): number {
    return this.dealer.isIdle ? Number.POSITIVE_INFINITY : this.state.movedAt + this.#patienceMs;
  }

  say(now: number): void {
    this.#nameAwaited(now);
    const waiting = this.#waitsFor();
    if (waiting === this.#for) return;
    this.#for = waiting;
    this.state.note(waiting === undefined ? { note: 'going-on' } : { note: 'waiting', for: waiting });
  }

  #waitsFor(): Obstacle | undefined {
    const { job, isWorking, isAtWork } = this.state;
    if (job === undefined) return undefined;
    if (!isWorking) return this.#obstacle(job);
    return !isAtWork && this.dealer.isIdle && this.dealer.hasOpenWork ? 'workers' : undefined;
  }

  #nameAwaited(now: number): void {
    const { state, dealer } = this;
    if (state.job === undefined || !state.isWorking || state.isAtWork || dealer.isIdle) return;
    const waitedMs = now - state.movedAt;
    if (waitedMs < this.#patienceMs) return;
    const workers = [...new Set([...dealer.work.live.values()].map((a) => a.worker))];
    state.awaitedMs = 2 * waitedMs;
    state.note({ note: 'awaited', workers, waitedMs });
  }
}
