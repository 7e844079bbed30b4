import { LantrainError } from '../../src/errors.js';
import type { Wire } from '../../src/model/wire.js';
import { type Checksum, equalChecksums } from '../exchange/checksum.js';
import type { Frame } from '../protocol/frame.js';
import { HeldFrames, type WeightsFrame } from './held-frames.js';

/** The result of applying due weights. */
export interface Applied {
  /** Buckets whose frames were malformed: they must be sent whole. */
  readonly lacking: readonly number[];
  /** Every bucket is at the newest version, which must be verified before it is used. */
  readonly isComplete: boolean;
}

const LACKING = -1;

/**
 * Tracks the version of each bucket of a worker's weights until all buckets have the same one:
 *
 *     add, announce  ->  takeDue (what is committed is applied, in order)  ->  verify (once all are there)  ->  verified
 *
 * It holds frames that are not applied yet. The caller owns the weights and computes their checksums.
 */
export class WeightsIn {
  readonly #held: HeldFrames;
  readonly #versions: number[];
  readonly #expected: Checksum[] = [];
  #verified = LACKING;

  /** `values`: the number of values of each bucket. */
  constructor(values: readonly number[], wire?: Wire) {
    this.#held = new HeldFrames(values, wire);
    this.#versions = values.map(() => LACKING);
  }

  /** The newest committed version; -1 before the first. */
  get announced(): number {
    return this.#held.announced;
  }

  /** The version to compute with: every bucket had it, with the owner's checksum. -1 before the first. */
  get verified(): number {
    return this.#verified;
  }

  /** Frames up to `version` become due. */
  announce(version: number): void {
    this.#held.announce(version);
  }

  /** See `HeldFrames.add`. */
  add(frame: Frame): Promise<void> | undefined {
    return this.#held.add(frame);
  }

  /**
   * Calls `apply` for each due frame in the order of arrival. If that throws LT_CLUSTER_FRAME, the bucket is reported
   * as lacking.
   */
  takeDue(apply: (frame: WeightsFrame) => void): Applied {
    const lacking: number[] = [];
    let moved = false;
    for (const frame of this.#held.takeDue()) {
      const { kind, bucket, step: version, base, weights } = frame.header;
      // The difference is for another state of the bucket, which came, or will come, whole.
      if (kind === 'weights-difference' && this.#versions[bucket] !== base) continue;
      try {
        apply(frame);
      } catch (error) {
        if (!(error instanceof LantrainError) || error.code !== 'LT_CLUSTER_FRAME') throw error;
        this.#versions[bucket] = LACKING;
        lacking.push(bucket);
        continue;
      }
      this.#versions[bucket] = version;
      this.#expected[bucket] = weights;
      moved = true;
    }
    const { announced } = this;
    return { lacking, isComplete: moved && this.#versions.every((version) => version === announced) };
  }

  /**
   * Compares the checksums of all buckets at `version` with the owner's. Returns the wrong buckets, which must be sent
   * whole. If there are none, `version` is verified.
   */
  verify(version: number, sums: readonly Checksum[]): number[] {
    const wrong = [...sums.keys()].filter((bucket) => !equalChecksums(sums[bucket], this.#expected[bucket]));
    for (const bucket of wrong) this.#versions[bucket] = LACKING;
    if (wrong.length === 0) this.#verified = version;
    return wrong;
  }

  /** Drops all held frames. */
  clear(): void {
    this.#held.clear();
  }
}
