/** The newest steps are what the next ones are thought to be like. */
const WINDOW_MS = 60_000;

interface End {
  readonly step: number;
  /** Milliseconds of this process in which the run was neither paused nor waiting for workers. */
  active: number;
  /** Time in steps. */
  readonly seconds: number;
}

/**
 * How long a run will take: its steps as they have gone of late, and per step what came between them since the start
 * (evaluations, samples, checkpoints). Pauses, and waiting for workers, say nothing of the steps to come.
 */
export class RunForecast {
  #first: End | undefined;
  #newest: End[] = [];
  #idleMs = 0;
  #idleSince: number | undefined;

  constructor(private readonly now: () => number) {}

  /** The run pauses or waits, or goes on. */
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

  /** A step has ended; `seconds` are those of all steps so far. */
  step(step: number, seconds: number): void {
    const end: End = { step, active: this.#active, seconds };
    // The first step of a process compiles kernels.
    this.#first ??= end;
    this.#newest.push(end);
    while (this.#newest.length > 2 && end.active - this.#newest[1].active > WINDOW_MS) this.#newest.shift();
  }

  /** Something else than a step has ended: what follows the first step comes again only after many others. */
  between(): void {
    if (this.#first !== undefined && this.#first === this.#newest.at(-1)) this.#first.active = this.#active;
  }

  /** Undefined until two steps are done. */
  secondsLeft(totalSteps: number): number | undefined {
    const [first, begin, end] = [this.#first, this.#newest[0], this.#newest.at(-1)];
    if (first === undefined || end === undefined || end.step === begin.step) return undefined;
    const each = (end.seconds - begin.seconds) / (end.step - begin.step);
    const between = (end.active - first.active) / 1000 - (end.seconds - first.seconds);
    return (each + Math.max(0, between) / (end.step - first.step)) * (totalSteps - end.step);
  }
}
