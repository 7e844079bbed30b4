import type { LiveRun, RunHooks } from '../run/events.js';

const STOP = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Schedulers send these before they end a job. By default Node opens a debugger or dies. */
const SAVE = ['SIGUSR1', 'SIGUSR2'] as const;

/**
 * Handles Ctrl-C, SIGTERM and SIGHUP. The first one stops the run after the current step. The second one gives up the
 * current step; finished steps are saved. The third one ends the process at once. SIGUSR1 and SIGUSR2 save a
 * checkpoint, and the run continues.
 */
export class StopSignals {
  readonly #stop = new AbortController();
  readonly #haste = new AbortController();
  #run: LiveRun | undefined;
  /** Whether a signal or the page has asked for the end. */
  #isStopping = false;
  #isOver = false;

  /** `atOnce` ends the process. It is called with what is left of the run. */
  constructor(private readonly atOnce: (standing: string) => void) {
    for (const signal of STOP) process.on(signal, () => this.#interrupted());
    for (const signal of SAVE)
      process.on(signal, () => {
        if (!this.#isOver) void this.#run?.save().catch(() => undefined);
      });
  }

  /** The signals for `RunHooks`. */
  get signals(): Required<Pick<RunHooks, 'signal' | 'haste'>> {
    return { signal: this.#stop.signal, haste: this.#haste.signal };
  }

  /** The loop begins. */
  begin(run: LiveRun): void {
    this.#run = run;
  }

  /** The end has been asked for, so the next signal counts as the second. */
  stopping(): void {
    this.#isStopping = true;
  }

  /** The run has ended. Signals are ignored from now on, so that the process ends with the run's exit code. */
  release(): void {
    this.#isOver = true;
  }

  #interrupted(): void {
    if (this.#isOver) return;
    if (!this.#isStopping) {
      this.#isStopping = true;
      this.#stop.abort();
      return;
    }
    // A run that is stopped before its loop ends at once and leaves nothing.
    if (this.#run === undefined) return;
    // Perhaps the current step is given up already and finished steps are being saved. A second signal must not
    // interrupt that.
    if (!this.#haste.signal.aborted) this.#haste.abort();
    else this.atOnce(this.#run.standing());
  }
}
