import type { Action } from '../messages.js';

/** What a run can be told besides; each returns what to say of it. */
export interface ControlHooks {
  /** As the first Ctrl-C: aborts the signal. */
  stop(): void;
  /** Saves the last finished step, also in the middle of the next one; false where that is done already. */
  save(): boolean;
  /** Undefined where there are no workers; false when there is none of that id. */
  drop?(worker: number): string | false;
  /** Something has been asked for or taken back. */
  changed(): void;
}

/** What the holder of the admin token has asked a run for, between two of its steps. */
export class RunControls {
  paused = false;
  #wake: () => void = () => {};

  /** `stop` is aborted once the run is to end, whoever said so. */
  constructor(
    readonly hooks: ControlHooks,
    private readonly stop: AbortSignal,
  ) {
    stop.addEventListener('abort', () => this.wake(), { once: true });
  }

  /** Returns what to tell who asked. */
  act(action: Action, worker?: number): string {
    const answer = this.#act(action, worker);
    this.hooks.changed();
    this.wake();
    return answer;
  }

  /** Resolves at once, or when the run is no longer paused. */
  async pause(): Promise<void> {
    while (this.paused && !this.stop.aborted) {
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  wake(): void {
    this.#wake();
  }

  #act(action: Action, worker: number | undefined): string {
    switch (action) {
      case 'pause':
        this.paused = true;
        return 'pausing after this step';
      case 'resume':
        this.paused = false;
        return 'going on';
      case 'checkpoint':
        return this.hooks.save() ? 'saving a checkpoint' : 'the last finished step is in a checkpoint already';
      case 'stop':
        this.hooks.stop();
        return 'stopping after this step, with a checkpoint';
      case 'drop': {
        if (this.hooks.drop === undefined) return 'this run has no workers';
        const name = worker === undefined ? false : this.hooks.drop(worker);
        return name === false ? 'that worker is gone already' : `dropped ${name}`;
      }
    }
  }
}
