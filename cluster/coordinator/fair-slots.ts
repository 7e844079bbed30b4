import { ReceivePool } from '../transport/receive-pool.js';

/**
 * So many large things in memory at once, in turn. Whoever reads slowly, or not at all, holds on to them, so they are
 * given out as `ReceivePool` gives out credit: a slot is one unit of it, which counts for its connection and person
 * until it is given back.
 */
export class FairSlots {
  readonly #pool: ReceivePool;

  constructor(most: number) {
    this.#pool = new ReceivePool(most, 1);
  }

  /**
   * For one connection: each call resolves, once it is its turn, with what gives the slot back. At most `MAX_WANTS`
   * calls may wait.
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
