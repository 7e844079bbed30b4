import type { MicroBatch } from '../../src/model/gpt.js';
import { fromLossFixed } from '../../src/model/sums.js';
import { noiseRatio, type StepOutcome } from '../../src/train/engine.js';
import { FIRST_LOSS_SCALE, type LossScale, nextLossScale } from '../../src/train/loss-scale.js';
import { clipScaleOf } from '../../src/train/optimizer.js';
import type { StateGate } from '../../src/train/state-gate.js';
import { lossOf } from '../exchange/blocks.js';
import type { ClusterOwner } from '../exchange/owner.js';
import type { Reducer } from '../reducer/reducer.js';
import type { ClusterOptions } from './options.js';
import type { RoundDriver } from './round-driver.js';
import type { WeightsOut } from './weights-out.js';

/** A step whose caller waits for the outcome. */
interface PendingStep {
  readonly batches: readonly MicroBatch[];
  readonly step: number;
  readonly learningRate: number;
  /** Those of all gradients, known before the updates if gradients are clipped. */
  squares?: number;
  readonly resolve: (outcome: StepOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** The owner's side of a step, from complete sums to new weights. */
export class Step {
  lossScale: LossScale | undefined;
  #pending: PendingStep | undefined;
  /** The step whose updates have begun. */
  #updating = 0;
  #closeUpdate: () => void = () => {};

  constructor(
    private readonly driver: RoundDriver,
    private readonly owner: ClusterOwner,
    private readonly reducer: Reducer,
    private readonly weights: WeightsOut,
    private readonly gate: StateGate,
    private readonly options: ClusterOptions,
  ) {
    if (options.shape.precision === 'f16') this.lossScale = FIRST_LOSS_SCALE;
  }

  /** The micro-batches of the current step; undefined without one. */
  get batches(): readonly MicroBatch[] | undefined {
    return this.#pending?.batches;
  }

  /** In the low wire: tells the summing threads the units of the next step's sums. Call it before `run`. */
  async setGrids(): Promise<void> {
    const grids = await this.owner.grids();
    for (const [bucket, bytes] of grids?.entries() ?? []) this.reducer.setGrid(bucket, bytes);
  }

  run(batches: readonly MicroBatch[], step: number, learningRate: number): Promise<StepOutcome> {
    return new Promise((resolve, reject) => {
      this.#pending = { batches, step, learningRate, resolve, reject };
      this.#updating = 0;
      this.driver.event({ type: 'begin-step', step, microBatches: batches.length });
    });
  }

  /** With clipping: computes the norm of all gradients, then prepares the updates. */
  async norm(): Promise<void> {
    const pending = this.#inHand();
    await this.#openUpdate();
    for (const bucket of this.owner.buckets.keys())
      await this.reducer.take(bucket, (low, high) => this.owner.submitNorm(bucket, low, high));
    const { squares } = await this.owner.readSquares();
    pending.squares = squares;
    const gradNorm = Math.sqrt(squares);
    this.owner.beginUpdate(pending.step, pending.learningRate, clipScaleOf(this.options.clip, gradNorm));
    this.#updating = pending.step;
    this.driver.event({ type: 'norm-known' });
  }

  async update(step: number, bucket: number): Promise<void> {
    const { learningRate } = this.#inHand();
    if (this.#updating !== step) {
      this.owner.beginUpdate(step, learningRate, 1);
      this.#updating = step;
    }
    // With clipping the adapter has the sums since `norm`.
    if (this.options.clip > 0) this.owner.submitUpdate(bucket);
    else
      await this.#change(() =>
        this.reducer.take(bucket, (low, high) => this.owner.submitUpdate(bucket, { low, high })),
      );
    await this.weights.pack(bucket, step);
    this.driver.event({ type: 'updated', bucket });
  }

  /** Makes the new weights the weights, after all reads queued before. Then resolves the step with its outcome. */
  commit(step: number): void {
    const pending = this.#inHand();
    this.#pending = undefined;
    void this.weights.inOrder(async () => {
      try {
        await this.#change(() => {
          this.owner.commit();
          this.weights.version = step;
        });
        this.#closeUpdate();
        const { microBatches, tokensPerStep } = this.options;
        const { loss, halvings } = await this.reducer.take(this.owner.buckets.length, lossOf);
        if (this.lossScale) this.lossScale = nextLossScale(this.lossScale, halvings, microBatches);
        pending.resolve({ loss: fromLossFixed(loss) / tokensPerStep, ...(await this.#norms(pending)) });
      } catch (error) {
        // `fail` does not reach this step any more, because it is not pending.
        pending.reject(error);
        throw error;
      }
    });
  }

  fail(error: unknown): void {
    this.#closeUpdate();
    this.#pending?.reject(error);
  }

  /**
   * With clipping, one `update` of the gate lasts from before the first bucket to the commit. Nobody may read the state
   * in between, because the previous moments are not kept.
   */
  #openUpdate(): Promise<void> {
    return new Promise((open) => {
      void this.gate.update(() => {
        open();
        return new Promise<void>((close) => {
          this.#closeUpdate = close;
          // The run failed while this waited for a reader, so nothing else closes it.
          if (this.driver.hasFailed) close();
        });
      });
    });
  }

  /** Without clipping, the update of each bucket and the commit are one `update` of the gate each. */
  #change<T>(work: () => T | Promise<T>): T | Promise<T> {
    return this.options.clip > 0 ? work() : this.gate.update(work);
  }

  async #norms({ squares: known }: PendingStep): Promise<Omit<StepOutcome, 'loss'>> {
    const isLow = this.options.shape.wire === 'low';
    if (!isLow && known !== undefined) return { gradNorm: Math.sqrt(known) };
    // Only updates compute the noise.
    const { squares, noise } = await this.owner.readSquares();
    return { gradNorm: Math.sqrt(squares), ...(isLow && { noise: noiseRatio(noise, squares) }) };
  }

  #inHand(): PendingStep {
    if (!this.#pending) throw new Error('no step is in hand');
    return this.#pending;
  }
}
