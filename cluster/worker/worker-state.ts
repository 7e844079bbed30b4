import type { Wire } from '../../src/model/wire.js';
import type { Checksum } from '../exchange/checksum.js';
import type { Frame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { WorkerMessage } from '../protocol/protocol.js';
import { idsOf } from '../round/sets.js';
import type { WeightsFrame } from './held-frames.js';
import { HeldWork } from './held-work.js';
import { WeightsIn } from './weights-in.js';
import type { DealtWork, Work } from './work.js';

/** What a worker's state needs from its shell. */
export interface WorkerOutput {
  send(message: WorkerMessage): void;
  /** Weights are due: call `applyDue` and, if they are complete, `verify`. */
  weightsDue(): void;
  /** Compute the work after those dealt before it, with weights of its version. */
  queue(work: Work): void;
  /** The work was revoked before it ran: never run it. */
  drop(work: Work): void;
}

/**
 * A worker's state and its answers, without an adapter, a socket or a clock: the versions of its weights, its
 * assignments, and every message about them. The simulator runs this class unchanged.
 */
export class WorkerState {
  readonly #weights: WeightsIn;
  readonly #works = new HeldWork();

  /** `values`: the number of values of each bucket. */
  constructor(
    values: readonly number[],
    private readonly output: WorkerOutput,
    wire?: Wire,
  ) {
    this.#weights = new WeightsIn(values, wire);
  }

  /** The version to compute with; -1 before the first. */
  get verified(): number {
    return this.#weights.verified;
  }

  /** Weights up to `version` take effect. */
  announce(version: number): void {
    this.#weights.announce(version);
    this.output.weightsDue();
  }

  /** See `HeldFrames.add`. */
  frame(frame: Frame): Promise<void> | undefined {
    const taken = this.#weights.add(frame);
    if (taken !== undefined) this.output.weightsDue();
    return taken;
  }

  /**
   * Applies due weights (`WeightsIn.takeDue`) and asks for lacking buckets. Returns the version to verify, if every
   * bucket has it.
   */
  applyDue(apply: (frame: WeightsFrame) => void): number | undefined {
    const { lacking, isComplete } = this.#weights.takeDue(apply);
    for (const bucket of lacking) this.#lacks([bucket]);
    return isComplete ? this.#weights.announced : undefined;
  }

  /**
   * Whether the weights of `version` have the owner's checksums. Sends `ready`, or `mismatch` with the wrong buckets.
   */
  verify(version: number, sums: readonly Checksum[]): boolean {
    const wrong = this.#weights.verify(version, sums);
    if (wrong.length > 0) this.#lacks(wrong);
    else this.output.send({ type: 'ready' });
    return wrong.length === 0;
  }

  #lacks(buckets: number[]): void {
    this.output.send({ type: 'mismatch', buckets });
  }

  /** Throws LT_CLUSTER_MALFORMED for an assignment that no coordinator deals. */
  deal(dealt: DealtWork): void {
    const { kind, step } = dealt;
    const { announced } = this.#weights;
    if (kind === 'step' && step > announced + 1) throw malformed(`work of step ${step}, which is not yet`);
    if (kind === 'evaluate' && step > announced) throw malformed(`version ${step}, which is not yet`);
    this.output.queue(this.#works.begin(dealt));
  }

  handBack(assignment: number, wanted: readonly number[]): void {
    const microBatches = this.#works.handBack(assignment, wanted);
    this.output.send({ type: 'handed-back', assignment, microBatches });
  }

  /**
   * Work that has not begun is dropped at once, so that a coordinator cannot fill the memory by dealing and revoking.
   */
  revoke(assignment: number): void {
    const work = this.#works.revoke(assignment);
    if (work === undefined || work.running) return;
    this.output.drop(work);
    this.#works.finish(work);
  }

  /** Reports how many micro-batches have begun and how many are done. */
  progress({ dealt: { assignment }, begun }: Work, done: number): void {
    this.output.send({ type: 'progress', assignment, begun, done });
  }

  /** Ends the work: the result of `microBatch` is not finite, or overflows. */
  refuse({ dealt: { assignment } }: Work, microBatch: number, what: string): void {
    this.output.send({ type: 'refused', assignment, microBatch, what });
  }

  /** Reports an evaluation's sum of losses in fixed point. */
  evaluated({ dealt: { assignment }, microBatches }: Work, sum: bigint, finite: boolean): void {
    const low = Number(BigInt.asUintN(32, sum));
    const high = Number(BigInt.asUintN(32, sum >> 32n));
    this.output.send({ type: 'evaluated', assignment, microBatches: idsOf(microBatches), low, high, finite });
  }

  /** The work is done or given up. */
  finish(work: Work): void {
    this.#works.finish(work);
  }

  /** The connection has ended: drops all work and weights. */
  end(): void {
    this.#works.revokeAll();
    this.#weights.clear();
  }
}
