import type { Action } from './messages.js';

/** What a run can be told besides; each returns what to say of it. */
export interface ControlHooks {
  /** As the first Ctrl-C. */
  stop(): void;
  /** Undefined where there are no workers; false when there is none of that id. */
  drop?(worker: number): string | false;
  /** Something has been asked for or taken back. */
  changed(): void;
}

/** What the holder of the admin token has asked a run for, between two of its steps. */
export class RunControls {
  paused = false;
  stopping = false;
  #wantsCheckpoint = false;
  #wake: () => void = () => {};

  constructor(readonly hooks: ControlHooks) {}

  /** Returns what to tell who asked. */
  act(action: Action, worker?: number): string {
    const answer = this.#act(action, worker);
    this.hooks.changed();
    this.wake();
    return answer;
  }

  /**
   * What to do before the next step: waits while the run is paused. Checkpoints can be asked for then as well, so this
   * is asked again after each.
   */
  async between(): Promise<'go' | 'checkpoint'> {
    for (;;) {
      if (this.#wantsCheckpoint) {
        this.#wantsCheckpoint = false;
        return 'checkpoint';
      }
      if (!this.paused || this.stopping) return 'go';
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  /** The run is to end after the step in hand, whoever said so. */
  stop(): void {
    this.stopping = true;
    this.hooks.changed();
    this.wake();
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
        this.#wantsCheckpoint = true;
        return this.paused ? 'saving a checkpoint' : 'saving a checkpoint after this step';
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
