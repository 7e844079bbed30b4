import type { Version } from './events.js';
import { has, type IdSet } from './sets.js';

const NONE = Number.MIN_SAFE_INTEGER;

/** What every worker's delivery is measured against. */
export interface WeightsStatus {
  readonly committed: Version;
  /** The buckets whose new weights are known, committed + 1. */
  readonly stepped: IdSet;
  /** The buckets whose update has been ordered: the difference to `committed` is gone. */
  readonly ordered: IdSet;
  /** The oldest version to which there are no differences: where this coordinator began. */
  readonly first: Version;
  /** All sums of the step are complete: nobody needs the old weights any more. */
  readonly complete: boolean;
}

export interface Delivered {
  readonly bucket: number;
  readonly version: Version;
  readonly form: 'whole' | 'difference';
}

/**
 * Which version of each bucket one worker was sent last, and what it is sent next: first what it lacks of the committed
 * weights, then the new weights of stepped buckets. Pulled by the worker's own pace, a few frames at a time, so that a
 * slow reader costs no memory: it skips versions and gets a bucket whole instead.
 */
export class Delivery {
  readonly #versions: Float64Array;
  #inFlight = 0;
  #cursor = 0;
  /** False while a scan has found nothing to send and nothing has changed since. */
  #maybeMore = true;
  /** Buckets two versions behind or more, and those behind at all. */
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

  /** Lacks nothing of the committed weights but differences from the version before, which it gets at once. */
  get ready(): boolean {
    return this.#behind === 0;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  sent(): void {
    this.#inFlight = Math.max(0, this.#inFlight - 1);
  }

  /** New weights of a bucket are there, or the window has opened. */
  notifyStepped(): void {
    this.#maybeMore = true;
  }

  /** `committed` is the version now. */
  committed(committed: Version): void {
    this.#maybeMore = true;
    this.#behind = this.#versions.reduce((n, version) => n + (version < committed - 1 ? 1 : 0), 0);
    this.#lacking = this.#versions.reduce((n, version) => n + (version < committed ? 1 : 0), 0);
  }

  /** The worker cannot use what it was sent of this bucket. */
  forget(bucket: number, committed: Version): void {
    this.#versions[bucket] = NONE;
    this.committed(committed);
  }

  /** The next bucket to send, as far as the window is open. */
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
    // Soon it gets the new weights whole instead.
    return weights.complete ? undefined : { bucket, version: committed, form: 'whole' };
  }

  #newOf(bucket: number, weights: WeightsStatus): Delivered | undefined {
    const { committed } = weights;
    if (this.#versions[bucket] !== committed || !has(weights.stepped, bucket)) return undefined;
    return { bucket, version: committed + 1, form: 'difference' };
  }
}
