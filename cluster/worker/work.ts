import type { ContributionHeader } from '../protocol/frame.js';
import type { MicroBatchData } from '../protocol/protocol.js';
import { type IdSet, microBatchSet } from '../round/sets.js';

/** What a coordinator deals a worker. */
export interface DealtWork {
  readonly assignment: number;
  readonly kind: 'step' | 'evaluate';
  /** Of a step, its number; of an evaluation, the version. */
  readonly step: number;
  readonly microBatches: readonly MicroBatchData[];
  /** Of a step: the buckets that are lacking; undefined, all. */
  readonly buckets?: readonly number[];
  /** In mixed precision: the loss scale to begin with is 2 to this power. */
  readonly scaleExponent?: number;
}

/**
 * An assignment on its way. What has begun cannot be handed back, so the set of micro-batches is fixed once all have
 * begun; every contribution of it names that set. What is revoked need not be finished.
 */
export class Work {
  /** In the order in which they are computed, without what was handed back. */
  #microBatches: readonly MicroBatchData[];
  #begun = 0;
  #revoked = false;
  /** It is being computed, or waits for its weights. */
  running = false;

  readonly dealt: Omit<DealtWork, 'microBatches'>;

  constructor({ microBatches, ...dealt }: DealtWork) {
    this.dealt = dealt;
    // Copies: the ids are views of a message, of which nothing else is to be kept.
    this.#microBatches = microBatches.map((one) => ({
      ...one,
      tokens: one.tokens.slice(),
      targets: one.targets.slice(),
    }));
  }

  /** Updates behind the weights that it is computed by. */
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

  /** Nothing is left that could be handed back. */
  get isFixed(): boolean {
    return this.#begun === this.#microBatches.length;
  }

  /** Those that have begun. */
  get microBatches(): IdSet {
    return microBatchSet(this.#microBatches.slice(0, this.#begun).map(({ microBatch }) => microBatch));
  }

  /**
   * What to compute next, begun with that: `stack` micro-batches of `sequences` each where so many are left and their
   * slots follow one another, else one; none at the end.
   */
  take(stack = 1, sequences = 1): readonly MicroBatchData[] {
    const next = this.#microBatches.slice(this.#begun, this.#begun + stack);
    const isWhole = next.length === stack && next.every((m, i) => m.slot === next[0].slot + i * sequences);
    const taken = isWhole ? next : next.slice(0, 1);
    this.#begun += taken.length;
    return taken;
  }

  /** Takes those of `wanted` out that have not begun. */
  handBack(wanted: ReadonlySet<number>): readonly MicroBatchData[] {
    const given = new Set(this.#microBatches.slice(this.#begun).filter(({ microBatch }) => wanted.has(microBatch)));
    this.#microBatches = this.#microBatches.filter((one) => !given.has(one));
    return [...given];
  }

  /** Nothing of it counts any more. */
  revoke(): void {
    this.#revoked = true;
  }

  /** The header of a contribution to a bucket, once the set is fixed. */
  contribution(incarnation: number, bucket: number): ContributionHeader {
    const { assignment, step } = this.dealt;
    return { kind: 'contribution', incarnation, assignment, step, bucket, microBatches: this.microBatches };
  }
}
