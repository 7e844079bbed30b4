import type { LiveRun, RunHooks } from '../run/events.js';

const STOP = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Schedulers announce their end by these; Node would open a debugger, or die. */
const SAVE = ['SIGUSR1', 'SIGUSR2'] as const;

/**
 * Ctrl-C, SIGTERM and SIGHUP. The first asks for an end after the step in hand. The second gives up the step in hand; all
 * finished steps are saved. The third ends the process at once. SIGUSR1 and SIGUSR2 save a checkpoint, and the run goes on.
 */
export class StopSignals {
  readonly #stop = new AbortController();
  readonly #haste = new AbortController();
  #run: LiveRun | undefined;
  /** By a signal or a page. */
  #isStopping = false;
  #isOver = false;

  /** `atOnce` ends the process, and is told what of the run is left. */
  constructor(private readonly atOnce: (standing: string) => void) {
    for (const signal of STOP) process.on(signal, () => this.#interrupted());
    for (const signal of SAVE)
      process.on(signal, () => {
        if (!this.#isOver) void this.#run?.save().catch(() => undefined);
      });
  }

  /** What ends the run. */
  get signals(): Required<Pick<RunHooks, 'signal' | 'haste'>> {
    return { signal: this.#stop.signal, haste: this.#haste.signal };
  }

  /** The loop begins. */
  begin(run: LiveRun): void {
    this.#run = run;
  }

  /** The end has been asked for: the next signal is the second. */
  stopping(): void {
    this.#isStopping = true;
  }

  /** The run has ended, and the process is about to: with the exit code of the run, whatever else is asked for now. */
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
    // Before its loop a run ends at once, and leaves nothing that could be lost.
    if (this.#run === undefined) return;
    // What is in hand may be given up already, and the steps before it are being saved: that is not for two to end.
    if (!this.#haste.signal.aborted) this.#haste.abort();
    else this.atOnce(this.#run.standing());
  }
}
