/** The steps of this last time predict the next ones. */
const WINDOW_MS = 60_000;

interface End {
  readonly step: number;
  /** Milliseconds in which the run was neither paused nor waiting for workers. */
  active: number;
  /** Seconds spent in steps. */
  readonly seconds: number;
}

/**
 * Estimates the time left of a run: from its recent steps, and per step from the time between steps since the start
 * (evaluations, samples, checkpoints). Pauses and waiting for workers do not count.
 */
export class RunForecast {
  #first: End | undefined;
  #newest: End[] = [];
  #idleMs = 0;
  #idleSince: number | undefined;

  constructor(private readonly now: () => number) {}

  /** True while the run pauses or waits for workers. */
  set idle(idle: boolean) {
    if (idle) this.#idleSince ??= this.now();
    else if (this.#idleSince !== undefined) {
      this.#idleMs += this.now() - this.#idleSince;
      this.#idleSince = undefined;
    }
  }

  get #active(): number {
    return (this.#idleSince ?? this.now()) - this.#idleMs;
  }

  /** A step has ended. `seconds`: the time of all steps so far. */
  step(step: number, seconds: number): void {
    const end: End = { step, active: this.#active, seconds };
    // The first step of a process compiles kernels, so it does not count.
    this.#first ??= end;
    this.#newest.push(end);
    while (this.#newest.length > 2 && end.active - this.#newest[1].active > WINDOW_MS) this.#newest.shift();
  }

  /**
   * Something else than a step has ended. What follows the first step does not count: it recurs only after many steps.
   */
  between(): void {
    if (this.#first !== undefined && this.#first === this.#newest.at(-1)) this.#first.active = this.#active;
  }

  /** Seconds left; undefined until two steps are done. */
  secondsLeft(totalSteps: number): number | undefined {
    const [first, begin, end] = [this.#first, this.#newest[0], this.#newest.at(-1)];
    if (first === undefined || end === undefined || end.step === begin.step) return undefined;
    const each = (end.seconds - begin.seconds) / (end.step - begin.step);
    const between = (end.active - first.active) / 1000 - (end.seconds - first.seconds);
    return (each + Math.max(0, between) / (end.step - first.step)) * (totalSteps - end.step);
  }
}
