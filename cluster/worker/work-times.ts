/** Splits the time between the end of one assignment and the start of the next; milliseconds. */
export class WorkTimes {
  /** When the last assignment ended, when the first weights after it arrived, and when they were verified. */
  #idleAt = performance.now();
  #weightsAt = 0;
  #verifiedAt = 0;

  /** Weights, or a commit, arrived. */
  weightsCame(): void {
    if (this.#weightsAt < this.#idleAt) this.#weightsAt = performance.now();
  }

  weightsVerified(): void {
    this.#verifiedAt = performance.now();
  }

  /** An assignment starts at `now`. Returns the time since the last one: for weights, and otherwise. */
  started(now: number): { readonly downloadMs: number; readonly waitMs: number } {
    const downloadMs = Math.max(0, this.#verifiedAt - Math.max(this.#weightsAt, this.#idleAt));
    return { downloadMs, waitMs: now - this.#idleAt - downloadMs };
  }

  ended(now: number): void {
    this.#idleAt = now;
  }
}
