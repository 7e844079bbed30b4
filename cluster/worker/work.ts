import type { ContributionHeader } from '../protocol/frame.js';
import type { MicroBatchData } from '../protocol/protocol.js';
import { type IdSet, microBatchSet } from '../round/sets.js';

/** An assignment as a coordinator deals it to a worker. */
export interface DealtWork {
  readonly assignment: number;
  readonly kind: 'step' | 'evaluate';
  /** The step's number; for an evaluation, the version of the weights. */
  readonly step: number;
  readonly microBatches: readonly MicroBatchData[];
  /** The buckets that a step still lacks; undefined: all. */
  readonly buckets?: readonly number[];
  /** Mixed precision only: log2 of the first loss scale to try. */
  readonly scaleExponent?: number;
}

/**
 * An assignment that a worker computes. Micro-batches that have begun cannot be handed back, so their set is fixed once
 * all have begun. Every contribution names that set. A revoked assignment need not be finished.
 */
export class Work {
  /** In the order of computation, without those that were handed back. */
  #microBatches: readonly MicroBatchData[];
  #begun = 0;
  #revoked = false;
  /** It is being computed or waits for its weights. */
  running = false;

  readonly dealt: Omit<DealtWork, 'microBatches'>;

  constructor({ microBatches, ...dealt }: DealtWork) {
    this.dealt = dealt;
    // Copied: the ids are views of a message, which would stay in memory otherwise.
    this.#microBatches = microBatches.map((one) => ({ ...one, ids: one.ids.slice() }));
  }

  /** The version of the weights that it is computed with. */
  get version(): number {
    const { kind, step } = this.dealt;
    return kind === 'step' ? step - 1 : step;
  }

  get begun(): number {
    return this.#begun;
  }

  get revoked(): boolean {
    return this.#revoked;
  }

  /** Nothing is left to hand back. */
  get isFixed(): boolean {
    return this.#begun === this.#microBatches.length;
  }

  /** The micro-batches that have begun. */
  get microBatches(): IdSet {
    return microBatchSet(this.#microBatches.slice(0, this.#begun).map(({ microBatch }) => microBatch));
  }

  /**
   * Begins the next micro-batches and returns them: `stack` of them if that many are left, else one, or none at the end.
   * `sequences`: the number in a micro-batch; then the slots of a stack must be consecutive.
   */
  take(stack = 1, sequences?: number): readonly MicroBatchData[] {
    const next = this.#microBatches.slice(this.#begun, this.#begun + stack);
    const follows = ({ slot }: MicroBatchData, i: number) =>
      sequences === undefined || slot === next[0].slot + i * sequences;
    const isWhole = next.length === stack && next.every(follows);
    const taken = isWhole ? next : next.slice(0, 1);
    this.#begun += taken.length;
    return taken;
  }

  /** Removes the micro-batches of `wanted` that have not begun, and returns them. */
  handBack(wanted: ReadonlySet<number>): readonly MicroBatchData[] {
    const given = new Set(this.#microBatches.slice(this.#begun).filter(({ microBatch }) => wanted.has(microBatch)));
    this.#microBatches = this.#microBatches.filter((one) => !given.has(one));
    return [...given];
  }

  /** Voids the assignment. */
  revoke(): void {
    this.#revoked = true;
  }

  /** The header of a contribution to a bucket, once the set is fixed. */
  contribution(incarnation: number, bucket: number): ContributionHeader {
    const { assignment, step } = this.dealt;
    return { kind: 'contribution', incarnation, assignment, step, bucket, microBatches: this.microBatches };
  }
}
