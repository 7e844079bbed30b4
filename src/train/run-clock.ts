/** Why a run stands still: it waits for workers, or somebody has paused it. */
export type Standstill = 'waiting' | 'paused';

/**
 * A monotonic clock of the time in which a run works, in milliseconds. It stands still while the run waits for workers or is
 * paused. Speeds and forecasts are measured by it.
 */
export class RunClock {
  readonly #reasons = new Set<Standstill>();
  #stoodMs = 0;
  #stoodSince = 0;

  constructor(private readonly monotonic: () => number = () => performance.now()) {}

  readonly now = (): number => {
    const now = this.#reasons.size > 0 ? this.#stoodSince : this.monotonic();
    return now - this.#stoodMs;
  };

  stand(reason: Standstill): void {
    if (this.#reasons.size === 0) this.#stoodSince = this.monotonic();
    this.#reasons.add(reason);
  }

  goOn(reason: Standstill): void {
    if (!this.#reasons.delete(reason) || this.#reasons.size > 0) return;
    this.#stoodMs += this.monotonic() - this.#stoodSince;
  }

  stands(reason: Standstill): boolean {
    return this.#reasons.has(reason);
  }
}
