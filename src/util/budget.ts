/**
 * A token bucket: `perSecond` is refilled a second, up to `burst`. A holder that has used more is in debt and must
 * wait.
 */
export class Budget {
  #left: number;
  #at: number;

  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
    now = performance.now(),
  ) {
    this.#left = burst;
    this.#at = now;
  }

  /** Uses `amount`; a negative amount is given back. */
  charge(amount: number, now = performance.now()): void {
    this.#refill(now);
    this.#left -= amount;
  }

  /** Milliseconds until the debt is paid; 0 where there is none. */
  waitMs(now = performance.now()): number {
    this.#refill(now);
    return this.#left >= 0 ? 0 : (-1000 * this.#left) / this.perSecond;
  }

  /** Whether it is full, as if it had never been used. */
  isWhole(now = performance.now()): boolean {
    this.#refill(now);
    return this.#left === this.burst;
  }

  #refill(now: number): void {
    this.#left = Math.min(this.burst, this.#left + ((now - this.#at) / 1000) * this.perSecond);
    this.#at = now;
  }
}

/** One budget for each person. Forgets full ones, so that strangers cannot fill memory. */
export class PersonBudgets {
  readonly #budgets = new Map<string, Budget>();

  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
    private readonly most = 1024,
  ) {}

  of(person: string): Budget {
    let budget = this.#budgets.get(person);
    if (budget === undefined) {
      if (this.#budgets.size >= this.most) this.#forget();
      budget = new Budget(this.perSecond, this.burst);
      this.#budgets.set(person, budget);
    }
    return budget;
  }

  /** Forgets full budgets; the oldest one where none is full. */
  #forget(): void {
    const now = performance.now();
    for (const [person, budget] of this.#budgets) if (budget.isWhole(now)) this.#budgets.delete(person);
    const [oldest] = this.#budgets.keys();
    if (this.#budgets.size >= this.most && oldest !== undefined) this.#budgets.delete(oldest);
  }
}
