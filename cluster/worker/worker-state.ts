import type { Checksum } from '../exchange/checksum.js';
import type { Frame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { WorkerMessage } from '../protocol/protocol.js';
import { idsOf } from '../round/sets.js';
import type { WeightsFrame } from './held-frames.js';
import { HeldWork } from './held-work.js';
import { WeightsIn } from './weights-in.js';
import type { DealtWork, Work } from './work.js';

/** What a worker's state asks of whoever has the connection and the adapter. */
export interface WorkerOutput {
  send(message: WorkerMessage): void;
  /** Weights are due: `applyDue` and, where they are complete, `verify`, one after the other. */
  weightsDue(): void;
  /** To be computed after what was dealt before it, by weights of its version. */
  queue(work: Work): void;
  /** It was revoked before it ran: it is never to run. */
  drop(work: Work): void;
}

/**
 * What a worker knows of a run and answers, without an adapter, a socket or a clock: the versions of its weights, the
 * assignments that it has, and every message about them. The simulator runs it as it is.
 */
export class WorkerState {
  readonly #weights: WeightsIn;
  readonly #works = new HeldWork();

  /** `values`: of each bucket. */
  constructor(
    values: readonly number[],
    private readonly output: WorkerOutput,
  ) {
    this.#weights = new WeightsIn(values);
  }

  /** The version by which can be computed; -1 before the first. */
  get verified(): number {
    return this.#weights.verified;
  }

  /** Weights up to `version` take effect. */
  announce(version: number): void {
    this.#weights.announce(version);
    this.output.weightsDue();
  }

  /** As `HeldFrames.add`. */
  frame(frame: Frame): Promise<void> | undefined {
    const taken = this.#weights.add(frame);
    if (taken !== undefined) this.output.weightsDue();
    return taken;
  }

  /**
   * Has `apply` take the weights that are due (`WeightsIn.takeDue`) and asks for what is lacking. Returns the version to
   * verify where every bucket is of it.
   */
  applyDue(apply: (frame: WeightsFrame) => void): number | undefined {
    const { lacking, isComplete } = this.#weights.takeDue(apply);
    for (const bucket of lacking) this.#lacks([bucket]);
    return isComplete ? this.#weights.announced : undefined;
  }

  /** Whether the weights of `version` have the owner's checksums; it is told so, or what it is to send again. */
  verify(version: number, sums: readonly Checksum[]): boolean {
    const wrong = this.#weights.verify(version, sums);
    if (wrong.length > 0) this.#lacks(wrong);
    else this.output.send({ type: 'ready' });
    return wrong.length === 0;
  }

  #lacks(buckets: number[]): void {
    this.output.send({ type: 'mismatch', buckets });
  }

  /** Throws LT_CLUSTER_MALFORMED for what no coordinator deals. */
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

  /** What has not begun goes at once: a coordinator that deals and revokes must not fill the memory either. */
  revoke(assignment: number): void {
    const work = this.#works.revoke(assignment);
    if (work === undefined || work.running) return;
    this.output.drop(work);
    this.#works.finish(work);
  }

  /** What has begun of a work, and how many of them are done. */
  progress({ dealt: { assignment }, begun }: Work, done: number): void {
    this.output.send({ type: 'progress', assignment, begun, done });
  }

  /** The work ends here: `microBatch` of it is not finite, or overflows. */
  refuse({ dealt: { assignment } }: Work, microBatch: number, what: string): void {
    this.output.send({ type: 'refused', assignment, microBatch, what });
  }

  /** The losses of an evaluation, on the grid. */
  evaluated({ dealt: { assignment }, microBatches }: Work, sum: bigint, finite: boolean): void {
    const low = Number(BigInt.asUintN(32, sum));
    const high = Number(BigInt.asUintN(32, sum >> 32n));
    this.output.send({ type: 'evaluated', assignment, microBatches: idsOf(microBatches), low, high, finite });
  }

  /** It is done, or given up. */
  finish(work: Work): void {
    this.#works.finish(work);
  }

  /** The connection is gone: nothing of all this counts any more. */
  end(): void {
    this.#works.revokeAll();
    this.#weights.clear();
  }
}
