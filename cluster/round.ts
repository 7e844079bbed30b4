import type { RoundAction, RoundConfig, RoundCounters, RoundEvent, WorkerView } from './round/events.js';

export * from './round/events.js';

/** Placeholder for the typed API; the logic follows. */
export class Round {
  constructor(readonly config: RoundConfig) {}

  /** Takes one event and returns what the shell must do, in this order. */
  handle(_event: RoundEvent): RoundAction[] {
    return [];
  }

  /** The time at which a `tick` is next of use; undefined while nothing waits for time. */
  get wakeAt(): number | undefined {
    return undefined;
  }

  /** Updates committed so far. */
  get version(): number {
    return this.config.version;
  }

  get counters(): Readonly<RoundCounters> {
    throw new Error('not yet');
  }

  workers(): WorkerView[] {
    return [];
  }
}
