/** Where a worker's time goes between the end of one assignment and the start of the next one; milliseconds. */
export class WorkTimes {
  /** When the last assignment was done, when the first weights after it came, and when they were in place. */
  #idleAt = performance.now();
  #weightsAt = 0;
  #verifiedAt = 0;

  /** Weights came, or a commit. */
  weightsCame(): void {
    if (this.#weightsAt < this.#idleAt) this.#weightsAt = performance.now();
  }

  weightsVerified(): void {
    this.#verifiedAt = performance.now();
  }

  /** An assignment starts at `now`: how long it waited since the last one, and how much of that for weights. */
  started(now: number): { readonly downloadMs: number; readonly waitMs: number } {
    const downloadMs = Math.max(0, this.#verifiedAt - Math.max(this.#weightsAt, this.#idleAt));
    return { downloadMs, waitMs: now - this.#idleAt - downloadMs };
  }

  ended(now: number): void {
    this.#idleAt = now;
  }
}
