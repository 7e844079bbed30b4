import type { WorkerId } from '../round/round.js';
import { countOf, type IdSet, membersOf } from '../round/sets.js';
import { type Contributor, WorkerTally } from '../worker/worker-tally.js';

/** An assignment of the current job. */
interface DealtAssignment {
  readonly worker: WorkerId;
  readonly who: Contributor;
  readonly kind: 'step' | 'evaluate';
  readonly dealtAt: number;
  /** When its newest contribution arrived. */
  lastAt: number;
}

interface Counted {
  readonly dealt: DealtAssignment;
  readonly microBatches: number;
}

/**
 * Credits workers with tokens and time. A worker gets the micro-batches whose losses it contributed to the step's sum,
 * so each micro-batch counts once. It gets the time to their last bucket, from the dealing or from the end of its
 * previous work. Times are milliseconds of one clock.
 */
export class Credits {
  readonly tally = new WorkerTally();
  readonly #dealt = new Map<number, DealtAssignment>();
  /** By the key of checked losses: the first assignment that delivered them. */
  readonly #firsts = new Map<string, number>();
  #counted: Counted[] = [];
  readonly #busyUntil = new Map<WorkerId, number>();

  deal(assignment: number, worker: WorkerId, who: Contributor, kind: DealtAssignment['kind'], now: number): void {
    this.#dealt.set(assignment, { worker, who, kind, dealtAt: now, lastAt: now });
  }

  /** The kind of an assignment of the current job; undefined for any other. */
  kindOf(assignment: number): DealtAssignment['kind'] | undefined {
    return this.#dealt.get(assignment)?.kind;
  }

  /** A contribution of the worker has arrived. */
  arrived(assignment: number, worker: WorkerId, now: number): void {
    const dealt = this.#dealt.get(assignment);
    if (dealt?.worker === worker) dealt.lastAt = now;
  }

  /** The losses of an assignment were checked. A worker that only confirms them later is not credited. */
  checked(assignment: number, microBatches: IdSet, digest: string): void {
    const key = lossesKey(microBatches, digest);
    if (!this.#firsts.has(key)) this.#firsts.set(key, assignment);
  }

  /** The losses of the assignment are in the step's sum. `digest`: the digest of its losses, if they were checked. */
  count(assignment: number, microBatches: IdSet, digest?: string): void {
    const first = digest === undefined ? undefined : this.#firsts.get(lossesKey(microBatches, digest));
    const dealt = this.#dealt.get(first ?? assignment);
    if (dealt?.kind === 'step') this.#counted.push({ dealt, microBatches: countOf(microBatches) });
  }

  /** The step is committed: credits what was counted, and calls `told` for each contribution. */
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
