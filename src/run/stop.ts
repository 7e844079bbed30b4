import { LantrainError } from '../errors.js';
import type { RunHooks } from './events.js';

/** A run whose loop has begun, as far as ending it is concerned. */
export interface StoppableRun {
  /** Saves the last finished step at once. */
  save(): Promise<unknown>;
  /** Gives up what is in hand; the last finished step is saved. */
  abandon(): void;
  /** Ends the run with an error; the last finished step is saved. */
  fail(why: Error): void;
  /** Whether it waits for workers: then no step ends by itself. */
  waits(): boolean;
  /** After how long a step that does not end is given up; undefined: never by itself. */
  readonly patienceMs?: number;
  /** Told once, when the end is asked for. `now`: what is in hand is given up. */
  onStop(now: boolean): void;
}

/** A step that goes on for so long after the end was asked for is no reason to risk those that are done. */
const SAVE_AFTER_MS = 2_000;

/**
 * The end of one run, whoever asks for it: its host by `signal`, or its page. After that the run ends with the step in
 * hand. If the step takes long, the steps before it are saved meanwhile; where others compute it, time gives it up. `haste`
 * gives it up at once.
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

  /** Aborted once the end is asked for; its reason is an LT_RUN_STOPPED, or what `haste` was aborted with. */
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

  /** The end is asked for. */
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

  /** The loop begins. Throws where the end was asked for before. */
  begin(run: StoppableRun): void {
    this.signal.throwIfAborted();
    this.#run = run;
  }

  /** The run has begun to wait for workers. */
  waiting(): void {
    if (this.signal.aborted) this.#abandon();
  }

  /** Ends the run with an error; before its loop, with no other way out. */
  fail(why: Error): void {
    if (this.#run !== undefined) {
      this.#run.fail(why);
      return;
    }
    this.#failure = why;
    this.ask();
  }

  /** The run has ended: nothing is listened to any more. */
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
