import type { MicroBatch } from '../../src/model/gpt.js';
import { fromLossGrid } from '../../src/model/sums.js';
import { MAX_TOKEN_BYTES, tokenBytes } from '../protocol/tokens.js';
import type { RoundDriver } from './round-driver.js';

/** Micro-batches of one part of an evaluation, if they fit into a message. */
const MOST_MICRO_BATCHES = 128;

interface PendingChunk {
  readonly batches: readonly MicroBatch[];
  /** Of the losses that came in so far, on the grid. */
  sum: bigint;
  readonly resolve: (sum: bigint | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Evaluations, in parts that fit into one message: each part is a job of the round. */
export class Evaluation {
  #chunk: PendingChunk | undefined;

  constructor(
    private readonly driver: RoundDriver,
    private readonly vocabSize: number,
    /** Tokens of a micro-batch. */
    private readonly rows: number,
  ) {}

  /** Of the part in hand; undefined where none is. */
  get batches(): readonly MicroBatch[] | undefined {
    return this.#chunk?.batches;
  }

  /** The mean loss of `tokens` tokens; NaN where it is not finite. `checkGoing` throws where nothing more may begin. */
  async evaluate(batches: readonly MicroBatch[], tokens: number, checkGoing: () => void): Promise<number> {
    const fitting = Math.floor(MAX_TOKEN_BYTES / tokenBytes(this.vocabSize, this.rows));
    const most = Math.max(1, Math.min(MOST_MICRO_BATCHES, fitting));
    let sum: bigint | undefined = 0n;
    for (let at = 0; at < batches.length; at += most) {
      checkGoing();
      const chunkSum = await this.#begin(batches.slice(at, at + most));
      sum = sum === undefined || chunkSum === undefined ? undefined : sum + chunkSum;
    }
    return sum === undefined ? Number.NaN : fromLossGrid(sum) / tokens;
  }

  #begin(batches: readonly MicroBatch[]): Promise<bigint | undefined> {
    return new Promise((resolve, reject) => {
      this.#chunk = { batches, sum: 0n, resolve, reject };
      this.driver.event({ type: 'begin-evaluation', microBatches: batches.length });
    });
  }

  add(sum: bigint): void {
    if (this.#chunk !== undefined) this.#chunk.sum += sum;
  }

  /** All losses of the part are in, or it was refused. */
  end(finite: boolean): void {
    this.#chunk?.resolve(finite ? this.#chunk.sum : undefined);
    this.#chunk = undefined;
  }

  fail(error: unknown): void {
    this.#chunk?.reject(error);
  }
}
