import { ReceivePool } from '../transport/receive-pool.js';

/**
 * Limits how many large objects are in memory at once. A peer that reads slowly holds on to them, so slots are given
 * out like the credit of `ReceivePool`: a slot is one unit of credit. It counts for its connection and person until it
 * is given back.
 */
export class FairSlots {
  readonly #pool: ReceivePool;

  constructor(most: number) {
    this.#pool = new ReceivePool(most, 1);
  }

  /**
   * Returns a function for one connection. Each call of it resolves when a slot is free, with a function that gives the
   * slot back. At most `MAX_WANTS` calls may wait.
   */
  taker(person: string): () => Promise<() => void> {
    const waiting: (() => void)[] = [];
    const member = this.#pool.member(() => waiting.shift()?.(), person);
    return async () => {
      await new Promise<void>((go) => {
        waiting.push(go);
        member.want(1);
      });
      return () => member.take(1)();
    };
  }
}
