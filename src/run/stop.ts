import { LantrainError } from '../errors.js';
import type { RunHooks } from './events.js';

/** What ending a run needs of it once its loop has begun. */
export interface StoppableRun {
  /** Saves the last finished step at once. */
  save(): Promise<unknown>;
  /** Gives up the current step; the last finished step is saved. */
  abandon(): void;
  /** Ends the run with an error; the last finished step is saved. */
  fail(why: Error): void;
  /** Whether it waits for workers: then no step ends. */
  waits(): boolean;
  /** Milliseconds after which a step that does not end is given up; undefined: never. */
  readonly patienceMs?: number;
  /** Called once, when the end is asked for. `now`: the current step is given up. */
  onStop(now: boolean): void;
}

/** If the current step goes on for this long after the end was asked for, the finished steps are saved meanwhile. */
const SAVE_AFTER_MS = 2_000;

/**
 * The request to end one run, by its host (`signal`) or by its page. The run then ends with the current step. If that
 * step takes long, the steps before it are saved meanwhile. Where other processes compute the step, it is given up
 * after a time. `haste` gives it up at once.
 */
export class StopRequest {
  readonly #controller = new AbortController();
  readonly #over = new AbortController();
  readonly #timers: NodeJS.Timeout[] = [];
  #run: StoppableRun | undefined;
  #abandoned = false;
  #failure: Error | undefined;
  #early: (why: Error) => void = () => {};

  constructor(private readonly hooks: Pick<RunHooks, 'signal' | 'haste'>) {
    this.#follow(hooks.signal, () => this.ask());
    this.#follow(hooks.haste, () => this.#hurry());
  }

  /** Aborted once the end is asked for. Its reason is LT_RUN_STOPPED, or the error that `fail` was given. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Rejects when the end is asked for before the loop begins. */
  early(): Promise<never> {
    return new Promise((_, reject) => {
      if (this.signal.aborted && this.#run === undefined) reject(this.signal.reason);
      this.#early = reject;
    });
  }

  /** Asks for the end. */
  ask(): void {
    if (this.signal.aborted) return;
    const why = this.#failure ?? new LantrainError('LT_RUN_STOPPED', 'the run was stopped before its first step');
    this.#controller.abort(why);
    const run = this.#run;
    if (run === undefined) {
      this.#early(why);
      return;
    }
    const now = run.waits();
    run.onStop(now);
    if (now) this.#abandon();
    else {
      this.#after(SAVE_AFTER_MS, () => void run.save().catch(() => undefined));
      if (run.patienceMs !== undefined) this.#after(run.patienceMs, () => this.#abandon());
    }
  }

  /** The loop begins. Throws the signal's reason where the end was asked for before. */
  begin(run: StoppableRun): void {
    this.signal.throwIfAborted();
    this.#run = run;
  }

  /** The run has begun to wait for workers. */
  waiting(): void {
    if (this.signal.aborted) this.#abandon();
  }

  /** Ends the run with an error, also before its loop. */
  fail(why: Error): void {
    if (this.#run !== undefined) {
      this.#run.fail(why);
      return;
    }
    this.#failure = why;
    this.ask();
  }

  /** The run has ended: removes listeners and timers. */
  release(): void {
    this.#over.abort();
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #hurry(): void {
    const { reason } = this.hooks.haste ?? {};
    if (reason instanceof LantrainError) {
      this.fail(reason);
      return;
    }
    this.ask();
    this.#abandon();
  }

  #abandon(): void {
    if (this.#abandoned) return;
    this.#abandoned = true;
    this.#run?.abandon();
  }

  #follow(signal: AbortSignal | undefined, then: () => void): void {
    if (signal === undefined) return;
    if (signal.aborted) then();
    else signal.addEventListener('abort', then, { once: true, signal: this.#over.signal });
  }

  #after(milliseconds: number, then: () => void): void {
    const timer = setTimeout(then, milliseconds);
    timer.unref();
    this.#timers.push(timer);
  }
}
