import type { CheckpointEvent } from '../report/metrics.js';
import { checkpointInterval } from './options.js';

export interface SavedCheckpoint {
  readonly digest: string;
  readonly path: string;
}

/** The owner of the state, as far as saving it is concerned; see `TrainingEngine`. */
export interface StateHolder {
  readonly version: number;
  holdState<T>(read: () => Promise<T>): Promise<T>;
}

export interface CheckpointHooks {
  event(event: CheckpointEvent): void | Promise<void>;
  /**
   * Takes the state after `step` updates, the loop's last ones if `final`: the loop goes on at once, and asks for the
   * next only after `written`, which says that the checkpoint is on disk.
   */
  checkpoint(step: number, final: boolean): Promise<{ readonly written: Promise<SavedCheckpoint> }>;
}

/** The longest time of one timer. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * When a run saves its state. At most one checkpoint is on its way to the disk while steps go on. What is saved is the
 * state after the last step that has been recorded, also in the middle of the next one.
 */
export class CheckpointSchedule {
  readonly #interval: ReturnType<typeof checkpointInterval>;
  /** The last step whose events are in the metrics. */
  #recorded: number;
  #recordedNext: () => void = () => {};
  /** The step of the last checkpoint that was taken. */
  #taken = -1;
  #digest = '';
  #writing: Promise<void> | undefined;
  /** Checkpoints are taken one after another. */
  #taking: Promise<unknown> = Promise.resolve();
  #failure: { readonly error: unknown } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `from`: updates behind the state that is on disk already; 0 for a new run. */
  constructor(
    private readonly hooks: CheckpointHooks,
    private readonly engine: StateHolder,
    every: string,
    private readonly from: number,
  ) {
    this.#interval = checkpointInterval(every);
    this.#recorded = from;
    this.#wait();
  }

  /** The events of `step` are in the metrics. Throws what has failed since the last call. */
  recorded(step: number): void {
    this.#recorded = step;
    this.#recordedNext();
    this.#check();
  }

  /**
   * After a step and all that belongs to it: saves it where its number is due, after the checkpoint before it is on disk.
   * What is due by the clock comes by itself.
   */
  async after(step: number): Promise<void> {
    this.#check();
    const { steps } = this.#interval;
    if (steps > 0 && step % steps === 0) await this.now();
  }

  /**
   * Saves the state after the last recorded step, at any time, unless that is done. Resolves with that step once its
   * state is taken; undefined where the loop has ended meanwhile.
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
        // The next update is in already, and its events follow at once.
        if (this.#recorded === step)
          await new Promise<void>((go) => {
            this.#recordedNext = go;
          });
      }
    });
  }

  /** The loop has ended: the digest of the state after its last step, once it is on disk. */
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

  /** The loop has failed: saves what it has done, where the state is still to be had. Never throws. */
  async rescue(): Promise<void> {
    const isNew = this.#recorded > this.from;
    try {
      if (isNew && this.#failure === undefined && this.engine.version === this.#recorded) await this.finish();
    } catch {
      // What ended the loop is told, not what followed from it.
    }
    this.close();
    // What is still on its way to the disk is what the run goes on from.
    await this.#writing;
  }

  /** The last recorded step is taken, or was on disk before. */
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
      // The caller may not wait for it: a signal does not.
      this.#failure ??= { error };
      throw error;
    }
    this.#wait();
  }

  async #tell(step: number, written: Promise<SavedCheckpoint>): Promise<void> {
    try {
      const { digest, path } = await written;
      this.#digest = digest;
      await this.hooks.event({ event: 'checkpoint', step, digest, path });
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#writing = undefined;
  }

  /** By the clock, the next one is due so long after the last was taken, and once that is on disk. */
  #wait(): void {
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
      // Nothing new to save: asked again after as long.
      if (this.#taken === before) this.#wait();
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}
