import { Round, type RoundAction, type RoundConfig, type RoundEvent } from '../round/round.js';
import { AwakeClock } from './times.js';

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** An event of the round without its time, which the driver adds. */
export type TimelessEvent = DistributiveOmit<RoundEvent, 'now'>;

/** What the driver calls. */
export interface DriverHandlers {
  carryOut(action: RoundAction): void;
  /** Called after an event and all of its actions. */
  handled(event: TimelessEvent): void;
  /** A defect or a failed adapter: the current job fails, and so does every later one. May be called more than once. */
  failed(error: unknown): void;
  /** Called every `TICK_MS`. */
  tick(): void;
}

export const TICK_MS = 200;
/** A pause of this process longer than this does not count as silence of others. */
const MOST_PAUSE_MS = 5 * TICK_MS;

/** Hands events to the round, with the time, and has its actions carried out in order, until something fails. */
export class RoundDriver {
  readonly round: Round;
  readonly #clock = new AwakeClock(MOST_PAUSE_MS);
  /** Events that occurred while the actions of another event were carried out. */
  readonly #events: TimelessEvent[] = [];
  #handling = false;
  #failure: unknown;
  readonly #timer: NodeJS.Timeout;

  constructor(
    config: RoundConfig,
    private readonly handlers: DriverHandlers,
  ) {
    this.round = new Round(config);
    this.#timer = setInterval(() => {
      handlers.tick();
      this.event({ type: 'tick' });
    }, TICK_MS);
  }

  /** The first failure. */
  get failure(): unknown {
    return this.#failure;
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Handles one event at a time: actions can close connections, and that causes events. */
  event(event: TimelessEvent): void {
    this.#events.push(event);
    if (this.#handling) return;
    this.#handling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) this.#handle(next);
    } catch (error) {
      this.fail(error);
    } finally {
      this.#handling = false;
    }
  }

  #handle(event: TimelessEvent): void {
    if (!this.hasFailed)
      for (const action of this.round.handle({ ...event, now: this.#clock.now() } as RoundEvent))
        this.handlers.carryOut(action);
    this.handlers.handled(event);
  }

  fail(error: unknown): void {
    this.#failure ??= error;
    this.handlers.failed(this.#failure);
  }

  /** Runs `work` in the background. If it rejects, the run fails. */
  background(work: Promise<unknown>): void {
    work.catch((error) => this.fail(error));
  }

  /** Stops the ticks. */
  close(): void {
    clearInterval(this.#timer);
  }
}
