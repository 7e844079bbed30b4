import type { Reporter } from '../report/progress.js';
import { remarkLine } from './output.js';

/** A run whose loop has begun, as far as ending it is concerned. */
export interface StoppableRun {
  /** Saves the last finished step at once. */
  save(): Promise<unknown>;
  /** Gives up what is in hand; the last finished step is saved. */
  abandon(): void;
  /** Whether it waits for workers: then no step ends by itself. */
  waits(): boolean;
  /** After how long a step that does not end is given up; undefined: never by itself. */
  readonly patienceMs?: number;
  /** Told once, when the end is asked for. */
  onStop(): void;
  /** What a process that ends now leaves behind. */
  standing(): string;
}

/** A step that goes on for so long after the end was asked for is no reason to risk those that are done. */
const SAVE_AFTER_MS = 2_000;

const STOP = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Schedulers announce their end by these; Node would open a debugger, or die. */
const SAVE = ['SIGUSR1', 'SIGUSR2'] as const;

/**
 * Ctrl-C, SIGTERM and SIGHUP. The first asks for an end after the step in hand. If that takes long, the steps before it
 * are saved meanwhile. The second gives up the step in hand, and so does time where others compute it; all finished
 * steps are saved. The third ends the process at once. SIGUSR1 and SIGUSR2 save a checkpoint, and the run goes on.
 */
export class StopSignals {
  requested = false;
  #run: StoppableRun | undefined;
  #abandoned = false;
  #askedTwice = false;
  #isOver = false;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #onStop = () => this.#interrupted();
  readonly #onSave = () => {
    if (!this.#isOver) void this.#run?.save().catch(() => undefined);
  };

  /** `early` ends the process when the end is asked for before the loop begins. */
  constructor(
    private readonly reporter: Reporter,
    private readonly early: () => void,
  ) {
    for (const signal of STOP) process.on(signal, this.#onStop);
    for (const signal of SAVE) process.on(signal, this.#onSave);
  }

  /** The loop begins. */
  watch(run: StoppableRun): void {
    this.#run = run;
  }

  /** The end is asked for, by a signal or a page. */
  ask(): void {
    const run = this.#run;
    if (run === undefined) {
      this.early();
      return;
    }
    if (this.requested) return;
    this.requested = true;
    const waits = run.waits();
    const when = waits ? 'now, as nobody computes' : 'after this step';
    this.reporter.note(`stopping ${when}, with a checkpoint (Ctrl-C again: at once)`);
    run.onStop();
    if (waits) this.abandon();
    else {
      this.#after(SAVE_AFTER_MS, this.#onSave);
      if (run.patienceMs !== undefined) this.#after(run.patienceMs, () => this.abandon());
    }
  }

  /** The run has begun to wait for workers. */
  waiting(): void {
    if (this.requested) this.abandon();
  }

  abandon(): void {
    if (this.#abandoned) return;
    this.#abandoned = true;
    this.#run?.abandon();
  }

  /** The run has ended, and the process is about to: with the exit code of the run, whatever else is asked for now. */
  release(): void {
    this.#isOver = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #interrupted(): void {
    if (this.#isOver) return;
    if (this.#run === undefined || !this.requested) this.ask();
    else if (!this.#askedTwice) {
      // What is in hand may be given up already, and the steps before it are being saved: that is not for two to end.
      this.#askedTwice = true;
      this.abandon();
    } else {
      this.reporter.stop();
      remarkLine(`stopped at once; ${this.#run.standing()}`);
      process.exit(130);
    }
  }

  #after(milliseconds: number, then: () => void): void {
    const timer = setTimeout(then, milliseconds);
    timer.unref();
    this.#timers.push(timer);
  }
}
