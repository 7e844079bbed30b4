/** What one connection holds, or waits for. */
interface Holder {
  readonly person: string;
  held: number;
}

interface Waiting {
  readonly holder: Holder;
  readonly go: () => void;
}

/**
 * So many large things in memory at once, in turn. Whoever reads slowly, or not at all, holds on to them, so the rule is that
 * of `ReceivePool`: no connection holds more than is left for others of its person, no person more than is left for other
 * persons, and a person who has none gets one wherever one is free.
 */
export class FairSlots {
  #free: number;
  readonly #waiting: Waiting[] = [];
  readonly #heldBy = new Map<string, number>();

  constructor(most: number) {
    this.#free = most;
  }

  /** For one connection: each call resolves, once it is its turn, with what gives the slot back. */
  taker(person: string): () => Promise<() => void> {
    const holder: Holder = { person, held: 0 };
    return async () => {
      await new Promise<void>((go) => {
        this.#waiting.push({ holder, go });
        this.#serve();
      });
      return () => this.#giveBack(holder);
    };
  }

  #serve(): void {
    for (let i = this.#next(); i >= 0; i = this.#next()) {
      const [{ holder, go }] = this.#waiting.splice(i, 1);
      this.#count(holder, 1);
      go();
    }
  }

  #next(): number {
    return this.#waiting.findIndex(({ holder: { person, held } }) => {
      const heldByPerson = this.#heldBy.get(person) ?? 0;
      return heldByPerson === 0 ? this.#free > 0 : held + 1 <= this.#free - heldByPerson - 1;
    });
  }

  #giveBack(holder: Holder): void {
    this.#count(holder, -1);
    this.#serve();
  }

  #count(holder: Holder, change: 1 | -1): void {
    this.#free -= change;
    holder.held += change;
    const heldByPerson = (this.#heldBy.get(holder.person) ?? 0) + change;
    if (heldByPerson > 0) this.#heldBy.set(holder.person, heldByPerson);
    else this.#heldBy.delete(holder.person);
  }
}
