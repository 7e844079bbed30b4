import type { MicroBatch } from '../../src/model/gpt.js';
import { fromLossFixed } from '../../src/model/sums.js';
import type { StepOutcome } from '../../src/train/engine.js';
import { FIRST_LOSS_SCALE, type LossScale, nextLossScale } from '../../src/train/loss-scale.js';
import { clipScaleOf } from '../../src/train/optimizer.js';
import type { StateGate } from '../../src/train/state-gate.js';
import { lossOf } from '../exchange/blocks.js';
import type { ClusterOwner } from '../exchange/owner.js';
import type { Reducer } from '../reducer/reducer.js';
import type { ClusterOptions } from './options.js';
import type { RoundDriver } from './round-driver.js';
import type { WeightsOut } from './weights-out.js';

/** A step that somebody waits for. */
interface PendingStep {
  readonly batches: readonly MicroBatch[];
  readonly step: number;
  readonly learningRate: number;
  /** With clipping it is known before the updates. */
  gradNorm?: number;
  readonly resolve: (outcome: StepOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** The owner's side of a step: from complete sums to new weights. */
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

  /** Of the step in hand; undefined where none is. */
  get batches(): readonly MicroBatch[] | undefined {
    return this.#pending?.batches;
  }

  run(batches: readonly MicroBatch[], step: number, learningRate: number): Promise<StepOutcome> {
    return new Promise((resolve, reject) => {
      this.#pending = { batches, step, learningRate, resolve, reject };
      this.#updating = 0;
      this.driver.event({ type: 'begin-step', step, microBatches: batches.length });
    });
  }

  /** With clipping: the norm of all gradients, then what all updates of the step share. */
  async norm(): Promise<void> {
    const pending = this.#inHand();
    await this.#openUpdate();
    for (const bucket of this.owner.buckets.keys())
      await this.reducer.read(bucket, (low, high) => this.owner.submitNorm(bucket, low, high));
    const gradNorm = Math.sqrt(await this.owner.readSquares());
    pending.gradNorm = gradNorm;
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
    await this.#change(() => this.reducer.take(bucket, (low, high) => this.owner.submitUpdate(bucket, low, high)));
    await this.weights.pack(bucket, step);
    this.driver.event({ type: 'updated', bucket });
  }

  /** The new weights become the weights once all reads that were asked for before are done; then the step's is told. */
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
        const gradNorm = pending.gradNorm ?? Math.sqrt(await this.owner.readSquares());
        pending.resolve({ loss: fromLossFixed(loss) / tokensPerStep, gradNorm });
      } catch (error) {
        // It is not in hand any more, so nobody else tells it.
        pending.reject(error);
        throw error;
      }
    });
  }

  fail(error: unknown): void {
    this.#closeUpdate();
    this.#pending?.reject(error);
  }

  /** With clipping one update of the gate lasts from before the first bucket to the commit: no moments are kept. */
  #openUpdate(): Promise<void> {
    return new Promise((open) => {
      void this.gate.update(() => {
        open();
        return new Promise<void>((close) => {
          this.#closeUpdate = close;
          // It has waited for a reader, and nobody closes it any more.
          if (this.driver.hasFailed) close();
        });
      });
    });
  }

  /** Without clipping each bucket, and the commit, is an update of the gate by itself. */
  #change<T>(work: () => T | Promise<T>): T | Promise<T> {
    return this.options.clip > 0 ? work() : this.gate.update(work);
  }

  #inHand(): PendingStep {
    if (!this.#pending) throw new Error('no step is in hand');
    return this.#pending;
  }
}
