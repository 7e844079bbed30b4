import type { WorkerId } from '../round/round.js';
import { countOf, type IdSet, membersOf } from '../round/sets.js';
import { type Contributor, WorkerTally } from '../worker/worker-tally.js';

/** An assignment of the job in hand. */
interface DealtAssignment {
  readonly worker: WorkerId;
  readonly who: Contributor;
  readonly kind: 'step' | 'evaluate';
  readonly dealtAt: number;
  /** When its newest contribution came. */
  lastAt: number;
}

interface Counted {
  readonly dealt: DealtAssignment;
  readonly microBatches: number;
}

/**
 * Who is credited with what: a worker with the micro-batches of a contribution whose losses went into the step's sum, so
 * that each micro-batch of a step counts once; and with the time from when it was dealt them, or was done with what it
 * had before, to their last bucket. Times are milliseconds of one clock.
 */
export class Credits {
  readonly tally = new WorkerTally();
  readonly #dealt = new Map<number, DealtAssignment>();
  /** By losses that were checked: the first assignment that they came of. */
  readonly #firsts = new Map<string, number>();
  #counted: Counted[] = [];
  readonly #busyUntil = new Map<WorkerId, number>();

  deal(assignment: number, worker: WorkerId, who: Contributor, kind: DealtAssignment['kind'], now: number): void {
    this.#dealt.set(assignment, { worker, who, kind, dealtAt: now, lastAt: now });
  }

  /** What an assignment of the job in hand is for; undefined for any other. */
  kindOf(assignment: number): DealtAssignment['kind'] | undefined {
    return this.#dealt.get(assignment)?.kind;
  }

  /** A contribution of the worker's came. */
  arrived(assignment: number, worker: WorkerId, now: number): void {
    const dealt = this.#dealt.get(assignment);
    if (dealt?.worker === worker) dealt.lastAt = now;
  }

  /** The losses of an assignment were checked: who confirms others' work later is not credited with it. */
  checked(assignment: number, microBatches: IdSet, digest: string): void {
    const key = lossesKey(microBatches, digest);
    if (!this.#firsts.has(key)) this.#firsts.set(key, assignment);
  }

  /** The losses of the assignment are in the step's sum. `digest`: of those that were checked. */
  count(assignment: number, microBatches: IdSet, digest?: string): void {
    const first = digest === undefined ? undefined : this.#firsts.get(lossesKey(microBatches, digest));
    const dealt = this.#dealt.get(first ?? assignment);
    if (dealt?.kind === 'step') this.#counted.push({ dealt, microBatches: countOf(microBatches) });
  }

  /** The step is committed: what was counted is credited, and `told` is called for each contribution. */
  commit(
    tokensPerMicroBatch: number,
    told: (worker: WorkerId, who: Contributor, tokens: number, workMs: number) => void,
  ): void {
    for (const { dealt, microBatches } of this.#counted.toSorted((a, b) => a.dealt.lastAt - b.dealt.lastAt)) {
      const { worker, who, dealtAt, lastAt } = dealt;
      const workMs = Math.max(0, lastAt - Math.max(dealtAt, this.#busyUntil.get(worker) ?? 0));
      this.#busyUntil.set(worker, lastAt);
      const tokens = microBatches * tokensPerMicroBatch;
      this.tally.credit(who, tokens, workMs);
      told(worker, who, tokens, workMs);
    }
    this.end();
  }

  /** The job is over. */
  end(): void {
    this.#dealt.clear();
    this.#firsts.clear();
    this.#counted = [];
  }

  left(worker: WorkerId): void {
    this.#busyUntil.delete(worker);
  }
}

function lossesKey(microBatches: IdSet, digest: string): string {
  return `${[...membersOf(microBatches)]} ${digest}`;
}
