import { randomInt } from 'node:crypto';
import type { ContributionHeader, Frame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { Reducer } from '../reducer/reducer.js';
import type { ContributionId, WorkerId } from '../round/round.js';
import { countOf, type IdSet } from '../round/sets.js';
import type { Credits } from './credits.js';
import type { RoundDriver } from './round-driver.js';
import type { BusyTime } from './times.js';

/** A contribution whose bytes are still in memory. */
type HeldContribution =
  | {
      readonly kind: 'frame';
      readonly header: ContributionHeader;
      readonly frame: Frame;
      readonly free: () => void;
      /** Digest of the payload, once it was checked. */
      digest?: string;
    }
  | { readonly kind: 'losses'; readonly sum: bigint; readonly free: () => void };

export interface HeldContributionsOptions {
  readonly incarnation: number;
  /** Tokens of a micro-batch. */
  readonly tokens: number;
  /** Decides what is audited: uniform in [0, 1). The default is unpredictable. */
  readonly draw?: () => number;
  /** Adds losses to the current evaluation. */
  readonly addLosses: (sum: bigint) => void;
  /** Time of adding contributions. */
  readonly time: BusyTime;
}

/** Holds the contributions of workers and the owner's adapter until the round adds, checks or releases them. */
export class HeldContributions {
  readonly #held = new Map<ContributionId, HeldContribution>();
  /** Tail of the queue of digests, which are reported in the order of their `check` actions. */
  #digests: Promise<void> = Promise.resolve();
  readonly #draw: () => number;
  readonly #lossBucket: number;
  #next = 1;

  constructor(
    private readonly driver: RoundDriver,
    private readonly reducer: Reducer,
    private readonly credits: Credits,
    private readonly options: HeldContributionsOptions,
  ) {
    this.#draw = options.draw ?? privateDraw;
    this.#lossBucket = reducer.bucketSizes.length - 1;
  }

  /** Hands a frame to the round. Resolves when its bytes are free. Throws LT_CLUSTER_MALFORMED for weights. */
  take(worker: WorkerId, frame: Frame): Promise<void> {
    const { header } = frame;
    if (header.kind !== 'contribution') throw malformed('weights came up');
    return new Promise((free) => {
      const contribution = this.#next++;
      this.#held.set(contribution, { kind: 'frame', header, frame, free });
      const { incarnation, step, assignment, bucket, microBatches } = header;
      this.credits.arrived(assignment, worker, performance.now());
      const event = { contribution, worker, draw: this.#draw(), incarnation, step, assignment, bucket, microBatches };
      this.driver.event({ type: 'contribution', ...event });
    });
  }

  /** The result of an evaluation is a contribution to the loss bucket, small enough for a control message. */
  takeLosses(worker: WorkerId, assignment: number, microBatches: IdSet, sum: bigint): void {
    const contribution = this.#next++;
    this.#held.set(contribution, { kind: 'losses', sum, free: () => {} });
    this.driver.event({
      type: 'contribution',
      contribution,
      worker,
      draw: this.#draw(),
      incarnation: this.options.incarnation,
      step: this.driver.round.version,
      assignment,
      bucket: this.#lossBucket,
      microBatches,
    });
  }

  /** Adds a contribution to its bucket's sum, whole or not at all. */
  add(contribution: ContributionId, bucket: number): void {
    const held = this.#held.get(contribution);
    if (!held) return;
    const { time, addLosses, tokens } = this.options;
    time.begin();
    const isLoss = bucket === this.#lossBucket;
    const finish = (reason?: string) => {
      time.end();
      this.release(contribution);
      const ok = reason === undefined;
      if (ok && held.kind === 'frame' && isLoss)
        this.credits.count(held.header.assignment, held.header.microBatches, held.digest);
      this.driver.event({ type: 'added', contribution, ok, reason });
    };
    if (held.kind === 'losses') {
      addLosses(held.sum);
      finish();
      return;
    }
    const { payload, bytes, payloadChecksum: checksum } = held.frame;
    const count = countOf(held.header.microBatches);
    // A message in a buffer of its own, as large ones are, is moved to the summing thread without a copy.
    const owned = payload.buffer.byteLength === bytes;
    this.reducer.add(bucket, payload, isLoss ? count * tokens : count, { owned, checksum }).then(
      (added) => finish(added === 'added' ? undefined : added.refused),
      (error) => this.driver.fail(error),
    );
  }

  /** Computes the digest of a contribution's payload and keeps the payload. */
  check(contribution: ContributionId): void {
    const held = this.#held.get(contribution);
    if (held?.kind !== 'frame') return;
    // Hashed outside of this thread, which must serve other connections.
    const digest = this.reducer.digest(held.frame.payload, held.frame.payloadChecksum);
    const before = this.#digests;
    const tell = async () => {
      const found = await digest;
      await before;
      const { assignment, bucket, microBatches } = held.header;
      held.digest = found;
      if (found !== undefined && bucket === this.#lossBucket) this.credits.checked(assignment, microBatches, found);
      if (!this.driver.hasFailed) this.driver.event({ type: 'checked', contribution, digest: found });
    };
    this.#digests = tell().catch((error) => this.driver.fail(error));
  }

  release(contribution: ContributionId): void {
    this.#held.get(contribution)?.free();
    this.#held.delete(contribution);
  }

  releaseAll(): void {
    for (const contribution of [...this.#held.keys()]) this.release(contribution);
  }
}

/** Uniform in [0, 1) and unpredictable. */
function privateDraw(): number {
  return randomInt(2 ** 47) / 2 ** 47;
}
