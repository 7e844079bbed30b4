import type { TokenSource } from '../data/token-source.js';
import type { Windows } from '../data/windows.js';
import type { MicroBatch } from '../model/gpt.js';
import { microBatches } from './batches.js';

/** Lists of at most this many tokens are kept from one evaluation to the next; longer ones are gathered each time. */
const MOST_KEPT_TOKENS = 2 ** 20;

/** The micro-batches that evaluate one part of the data: always its same first windows, in order. */
export class EvaluationList {
  readonly #starts: readonly number[];
  #kept: readonly MicroBatch[] | undefined;

  /** `batches`: the number of batches of windows. A micro-batch has `size` sequences of `context` tokens. */
  constructor(
    private readonly source: TokenSource,
    windows: Windows,
    batches: number,
    private readonly context: number,
    private readonly size: number,
  ) {
    this.#starts = windows.evaluationBatches(batches).flat();
  }

  /** Tokens that have a loss. */
  get tokens(): number {
    return this.#starts.length * this.context;
  }

  batches(): readonly MicroBatch[] {
    const batches = this.#kept ?? microBatches(this.source, this.#starts, this.context, this.size);
    if (this.tokens <= MOST_KEPT_TOKENS) this.#kept = batches;
    return batches;
  }
}
