import type { FromWorker, Owner, ToWorker } from './owner.js';
import type { SimulatedWorker } from './worker.js';
import type { World } from './world.js';

/**
 * One connection. Each direction keeps its order and delays each message by a random time. Messages on the way are lost
 * when it breaks.
 */
export class Link {
  open = true;
  #upAt = 0;
  #downAt = 0;

  constructor(
    readonly world: World,
    readonly id: number,
    readonly owner: Owner,
    readonly worker: SimulatedWorker,
    readonly latencyMs: number,
  ) {}

  #arrival(last: number): number {
    return Math.max(last, this.world.now + this.world.random() * this.latencyMs);
  }

  up(message: FromWorker): void {
    this.#upAt = this.#arrival(this.#upAt);
    this.world.after(this.#upAt - this.world.now, () => {
      if (this.open && this.owner.up && this.owner.stopped === undefined) this.owner.receive(this, message);
    });
  }

  down(message: ToWorker): void {
    this.#downAt = this.#arrival(this.#downAt);
    this.world.after(this.#downAt - this.world.now, () => {
      if (this.open) this.worker.receive(this, message);
    });
  }

  /** Breaks the connection. The coordinator notices after `unnoticedMs`, for example by a ping timeout. */
  cut(unnoticedMs: number): void {
    if (!this.open) return;
    this.open = false;
    this.world.after(unnoticedMs, () => {
      if (this.owner.up && this.owner.stopped === undefined) this.owner.left(this);
    });
    this.world.after(this.world.integer(1, 50), () => this.worker.disconnected(this));
  }
}
