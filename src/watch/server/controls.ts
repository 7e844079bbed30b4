import type { Action } from '../messages.js';

/** The actions of the run that a page can trigger. */
export interface ControlHooks {
  /** Stops the run after the current step, as the first Ctrl-C does. */
  stop(): void;
  /** Saves the last finished step, also during the next one; false where that is done already. */
  save(): boolean;
  /**
   * Ends a worker's connection and returns its name; false where no worker has that id. Absent where there are no
   * workers.
   */
  drop?(worker: number): string | false;
  /** Called after every action. */
  changed(): void;
}

/** The state of a run's controls, for the holder of the admin token. */
export class RunControls {
  paused = false;
  #wake: () => void = () => {};

  /** `stop`: aborted once the run is to end, for any reason. */
  constructor(
    readonly hooks: ControlHooks,
    private readonly stop: AbortSignal,
  ) {
    stop.addEventListener('abort', () => this.wake(), { once: true });
  }

  /** Carries an action out. Returns the answer for the page. */
  act(action: Action, worker?: number): string {
    const answer = this.#act(action, worker);
    this.hooks.changed();
    this.wake();
    return answer;
  }

  /** Resolves when the run is not paused. */
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
