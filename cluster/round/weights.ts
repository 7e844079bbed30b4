import type { Version } from './events.js';
import { has, type IdSet } from './sets.js';

const NONE = Number.MIN_SAFE_INTEGER;

/** The owner's weights, which every worker's delivery is compared with. */
export interface WeightsStatus {
  readonly committed: Version;
  /** Buckets whose weights of version committed + 1 are known. */
  readonly stepped: IdSet;
  /** Buckets whose update was ordered: their difference to version `committed` no longer exists. */
  readonly ordered: IdSet;
  /** The version at which this coordinator began: no differences lead to it. */
  readonly first: Version;
  /** All sums of the step are complete, so nobody needs the old weights any more. */
  readonly complete: boolean;
}

export interface Delivered {
  readonly bucket: number;
  readonly version: Version;
  readonly form: 'whole' | 'difference';
}

/**
 * Tracks the version of each bucket that one worker was sent, and chooses what to send next: first lacking buckets of
 * the committed weights, then new weights of stepped buckets. Few frames are in flight, at the worker's own pace, so a
 * slow reader costs no memory: it skips versions and gets whole buckets instead.
 */
export class Delivery {
  readonly #versions: Float64Array;
  #inFlight = 0;
  #cursor = 0;
  /** False if the last scan found nothing to send and nothing has changed since. */
  #maybeMore = true;
  /** Buckets at least two versions behind, and buckets at least one behind. */
  #behind: number;
  #lacking: number;

  constructor(
    buckets: number,
    readonly window: number,
  ) {
    this.#versions = new Float64Array(buckets).fill(NONE);
    this.#behind = buckets;
    this.#lacking = buckets;
  }

  /** The worker lacks at most differences from the previous version, which it gets at once. */
  get ready(): boolean {
    return this.#behind === 0;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  sent(): void {
    this.#inFlight = Math.max(0, this.#inFlight - 1);
  }

  /** New weights of a bucket are available. */
  notifyStepped(): void {
    this.#maybeMore = true;
  }

  /** `committed` is the committed version now: counts again what the worker lacks. */
  committed(committed: Version): void {
    this.#maybeMore = true;
    this.#behind = this.#versions.reduce((n, version) => n + (version < committed - 1 ? 1 : 0), 0);
    this.#lacking = this.#versions.reduce((n, version) => n + (version < committed ? 1 : 0), 0);
  }

  /** The worker's copy of this bucket is wrong. */
  forget(bucket: number, committed: Version): void {
    this.#versions[bucket] = NONE;
    this.committed(committed);
  }

  /** The next bucket to send; undefined if the window is full or nothing is lacking. */
  next(weights: WeightsStatus): Delivered | undefined {
    if (!this.#maybeMore || this.#inFlight >= this.window) return undefined;
    const lacking = this.#lacking > 0 ? this.#find((bucket) => this.#committedOf(bucket, weights)) : undefined;
    const found = lacking ?? this.#find((bucket) => this.#newOf(bucket, weights));
    if (found === undefined) {
      this.#maybeMore = false;
      return undefined;
    }
    const old = this.#versions[found.bucket];
    if (old < weights.committed - 1) this.#behind--;
    if (old < weights.committed) this.#lacking--;
    this.#versions[found.bucket] = found.version;
    this.#inFlight++;
    return found;
  }

  #find(choose: (bucket: number) => Delivered | undefined): Delivered | undefined {
    const buckets = this.#versions.length;
    for (let i = 0; i < buckets; i++) {
      const bucket = (this.#cursor + i) % buckets;
      const found = choose(bucket);
      if (found === undefined) continue;
      this.#cursor = (bucket + 1) % buckets;
      return found;
    }
    return undefined;
  }

  #committedOf(bucket: number, weights: WeightsStatus): Delivered | undefined {
    const { committed } = weights;
    const version = this.#versions[bucket];
    if (version >= committed) return undefined;
    if (version === committed - 1 && committed > weights.first && !has(weights.ordered, bucket))
      return { bucket, version: committed, form: 'difference' };
    // If the step is complete, it soon gets the new weights whole instead.
    return weights.complete ? undefined : { bucket, version: committed, form: 'whole' };
  }

  #newOf(bucket: number, weights: WeightsStatus): Delivered | undefined {
    const { committed } = weights;
    if (this.#versions[bucket] !== committed || !has(weights.stepped, bucket)) return undefined;
    return { bucket, version: committed + 1, form: 'difference' };
  }
}
