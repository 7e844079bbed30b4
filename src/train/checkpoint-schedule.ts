import type { CheckpointEvent } from '../report/metrics.js';
import { checkpointInterval } from './options.js';

export interface WrittenCheckpoint {
  readonly digest: string;
  readonly path: string;
}

/** The part of `TrainingEngine` that saving needs. */
export interface StateHolder {
  readonly version: number;
  holdState<T>(read: () => Promise<T>): Promise<T>;
}

export interface CheckpointHooks {
  event(event: CheckpointEvent): void | Promise<void>;
  /**
   * Takes a copy of the state after `step` updates; with `final` after the loop's last one. `written` resolves once the
   * checkpoint is on disk. The loop goes on meanwhile, but asks for the next checkpoint only after that.
   */
  checkpoint(step: number, final: boolean): Promise<{ readonly written: Promise<WrittenCheckpoint> }>;
}

/** The longest delay of a timer. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Decides when a run saves its state. Steps go on while at most one checkpoint is written. A checkpoint holds the state after
 * the last recorded step, even if it is taken in the middle of the next step.
 */
export class CheckpointSchedule {
  readonly #interval: ReturnType<typeof checkpointInterval>;
  /** The last step whose events are in the metrics. */
  #recorded: number;
  /** Wakes `now`, which waits for the events of the next step. */
  #recordedNext: () => void = () => {};
  /** The step of the last checkpoint taken. */
  #taken = -1;
  #digest = '';
  #writing: Promise<void> | undefined;
  /** Checkpoints are taken one after another. */
  #taking: Promise<unknown> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `from`: updates of the state that is already on disk; 0 for a new run. */
  constructor(
    private readonly hooks: CheckpointHooks,
    private readonly engine: StateHolder,
    every: string,
    private readonly from: number,
  ) {
    this.#interval = checkpointInterval(every);
    this.#recorded = from;
    this.#startTimer();
  }

  /** Call it when the events of `step` are in the metrics. Throws what has failed since the last call. */
  recorded(step: number): void {
    this.#recorded = step;
    this.#recordedNext();
    this.#check();
  }

  /**
   * Call it after a step and its reports. Saves the state if the step's number is due, once the checkpoint before is on disk.
   * Checkpoints that are due by the clock need no call.
   */
  async after(step: number): Promise<void> {
    this.#check();
    const { steps } = this.#interval;
    if (steps > 0 && step % steps === 0) await this.now();
  }

  /**
   * Saves the state after the last recorded step, at any time, unless it is saved already. Resolves with that step once its
   * state is taken, or with undefined if the loop has ended meanwhile.
   */
  now(): Promise<number | undefined> {
    return this.#inTurn(async () => {
      for (;;) {
        if (this.#closed) return undefined;
        if (this.isDone) return this.#recorded;
        await this.#writing;
        this.#check();
        const step = this.#recorded;
        const isTaken = await this.engine.holdState(async () => {
          if (this.engine.version !== step) return false;
          await this.#take(step, false);
          return true;
        });
        if (isTaken) return step;
        // The next update has been taken already; its events follow at once.
        if (this.#recorded === step)
          await new Promise<void>((go) => {
            this.#recordedNext = go;
          });
      }
    });
  }

  /** Call it when the loop has ended. Saves the state after its last step and returns its digest once it is on disk. */
  async finish(): Promise<string> {
    this.close();
    await this.#inTurn(async () => {
      await this.#writing;
      this.#check();
      const step = this.#recorded;
      if (this.#taken === step) return;
      await this.engine.holdState(() => {
        if (this.engine.version !== step) throw new Error(`the state is not that after step ${step}`);
        return this.#take(step, true);
      });
    });
    await this.#writing;
    this.#check();
    return this.#digest;
  }

  /** Call it when the loop has failed. Saves the finished steps if the state can still be read. Never throws. */
  async rescue(): Promise<void> {
    const isNew = this.#recorded > this.from;
    try {
      if (isNew && this.#failure === undefined && this.engine.version === this.#recorded) await this.finish();
    } catch {
      // The caller throws what ended the loop, not what followed from it.
    }
    this.close();
    // The checkpoint that is still being written is the one a resumed run starts from.
    await this.#writing;
  }

  /** Whether the last recorded step is taken, or was already on disk. */
  get isDone(): boolean {
    return this.#recorded === this.#taken || (this.#recorded === this.from && this.from > 0);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#recordedNext();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#taking.then(work);
    this.#taking = done.catch(() => undefined);
    return done;
  }

  async #take(step: number, final: boolean): Promise<void> {
    try {
      const { written } = await this.hooks.checkpoint(step, final);
      this.#taken = step;
      this.#writing = this.#tell(step, written);
    } catch (error) {
      // Kept as well as thrown, because not every caller waits: a signal does not.
      this.#failure ??= { error };
      throw error;
    }
    this.#startTimer();
  }

  async #tell(step: number, written: Promise<WrittenCheckpoint>): Promise<void> {
    try {
      const { digest, path } = await written;
      this.#digest = digest;
      await this.hooks.event({ event: 'checkpoint', step, digest, path });
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#writing = undefined;
  }

  /**
   * Starts the timer of the next checkpoint by the clock. Called at the start, when a checkpoint is taken, and when there is
   * nothing new to save.
   */
  #startTimer(): void {
    const { milliseconds } = this.#interval;
    clearTimeout(this.#timer);
    if (milliseconds === 0 || this.#closed) return;
    this.#timer = setTimeout(() => void this.#due(), Math.min(milliseconds, LONGEST_TIMER_MS));
    this.#timer.unref();
  }

  async #due(): Promise<void> {
    try {
      const before = this.#taken;
      await this.now();
      // Nothing new to save: try again after another interval.
      if (this.#taken === before) this.#startTimer();
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
