import type { MicroBatch } from '../../src/model/gpt.js';
import { fromLossFixed } from '../../src/model/sums.js';
import { MAX_TOKEN_BYTES, mostWindowBytes } from '../protocol/tokens.js';
import type { RoundDriver } from './round-driver.js';

/** Largest number of micro-batches of one chunk of an evaluation; fewer if they do not fit into a message. */
const MOST_MICRO_BATCHES = 128;

interface PendingChunk {
  readonly batches: readonly MicroBatch[];
  /** Sum of the losses so far, in fixed point. */
  sum: bigint;
  readonly resolve: (sum: bigint | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** Runs evaluations in chunks that fit into one message. Each chunk is a job of the round. */
export class Evaluation {
  #chunk: PendingChunk | undefined;

  constructor(
    private readonly driver: RoundDriver,
    private readonly vocabSize: number,
    /** Tokens of a micro-batch. */
    private readonly rows: number,
  ) {}

  /** The micro-batches of the current chunk; undefined without one. */
  get batches(): readonly MicroBatch[] | undefined {
    return this.#chunk?.batches;
  }

  /** The mean loss of `tokens` tokens; NaN if it is not finite. `checkGoing` throws if no chunk may begin any more. */
  async evaluate(batches: readonly MicroBatch[], tokens: number, checkGoing: () => void): Promise<number> {
    const fitting = Math.floor(MAX_TOKEN_BYTES / mostWindowBytes(this.vocabSize, this.rows));
    const most = Math.max(1, Math.min(MOST_MICRO_BATCHES, fitting));
    let sum: bigint | undefined = 0n;
    for (let at = 0; at < batches.length; at += most) {
      checkGoing();
      const chunkSum = await this.#begin(batches.slice(at, at + most));
      sum = sum === undefined || chunkSum === undefined ? undefined : sum + chunkSum;
    }
    return sum === undefined ? Number.NaN : fromLossFixed(sum) / tokens;
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

  /** All losses of the chunk have arrived, or it was refused. */
  end(finite: boolean): void {
    this.#chunk?.resolve(finite ? this.#chunk.sum : undefined);
    this.#chunk = undefined;
  }

  fail(error: unknown): void {
    this.#chunk?.reject(error);
  }
}
