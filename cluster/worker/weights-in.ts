import { LantrainError } from '../../src/errors.js';
import { type Checksum, equalChecksums } from '../exchange/checksum.js';
import type { Frame } from '../protocol/frame.js';
import { HeldFrames, type WeightsFrame } from './held-frames.js';

/** What came of weights that were due. */
export interface Applied {
  /** Buckets whose frames are malformed: they are needed whole. */
  readonly lacking: readonly number[];
  /** Every bucket is at the newest version now, which is to be verified before anything is computed by it. */
  readonly isComplete: boolean;
}

const LACKING = -1;

/**
 * Of which version each bucket of a worker's weights is, and what must come to make all of them one version:
 *
 *     add, announce  ->  takeDue (what is committed is applied, in order)  ->  verify (once all are there)  ->  verified
 *
 * It holds frames that are not applied yet; the weights themselves, and their checksums, are whose who calls it.
 */
export class WeightsIn {
  readonly #held: HeldFrames;
  readonly #versions: number[];
  readonly #expected: Checksum[] = [];
  #verified = LACKING;

  /** `values`: of each bucket. */
  constructor(values: readonly number[]) {
    this.#held = new HeldFrames(values);
    this.#versions = values.map(() => LACKING);
  }

  /** The newest version that is committed; -1 before the first. */
  get announced(): number {
    return this.#held.announced;
  }

  /** The version by which can be computed: every bucket was of it, with the owner's checksum. -1 before the first. */
  get verified(): number {
    return this.#verified;
  }

  /** Weights up to `version` are due. */
  announce(version: number): void {
    this.#held.announce(version);
  }

  /** As `HeldFrames.add`. */
  add(frame: Frame): Promise<void> | undefined {
    return this.#held.add(frame);
  }

  /**
   * Has `apply` take what is due, in the order in which it came. Where that throws LT_CLUSTER_FRAME, the bucket is needed
   * whole.
   */
  takeDue(apply: (frame: WeightsFrame) => void): Applied {
    const lacking: number[] = [];
    let moved = false;
    for (const frame of this.#held.takeDue()) {
      const { kind, bucket, step: version, base, weights } = frame.header;
      // What the bucket is past already was meant for an earlier state: it came, or will come, whole.
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
   * Compares the checksums of all buckets, which are complete at `version`, with the owner's. Returns the buckets that
   * are wrong and needed whole; without any, the version is verified.
   */
  verify(version: number, sums: readonly Checksum[]): number[] {
    const wrong = [...sums.keys()].filter((bucket) => !equalChecksums(sums[bucket], this.#expected[bucket]));
    for (const bucket of wrong) this.#versions[bucket] = LACKING;
    if (wrong.length === 0) this.#verified = version;
    return wrong;
  }

  /** Nothing that is held will be applied. */
  clear(): void {
    this.#held.clear();
  }
}
