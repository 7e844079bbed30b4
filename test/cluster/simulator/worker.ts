import { Link } from './link.js';
import type { FromWorker, Mutation, Owner, ToWorker } from './owner.js';
import { Sender } from './sender.js';
import { SimulatedShell } from './shell.js';
import type { WorkerTraits } from './traits.js';
import type { Shape, World } from './world.js';

export interface Cluster {
  readonly world: World;
  readonly shape: Shape;
  /** The current coordinator, if one listens. */
  owner: Owner | undefined;
  readonly mutation?: Mutation;
  /** Micro-batches that are NaN on every adapter, by step. */
  readonly poisoned: ReadonlyMap<number, number>;
  nextWorker: number;
  /** Random faults of workers have ended. */
  calm: boolean;
}

/**
 * A worker's process and its connections, with the faults of both. A `SimulatedShell` is its behaviour in one
 * connection.
 */
export class SimulatedWorker {
  alive = true;
  link: Link | undefined;
  readonly sender: Sender;
  #shell: SimulatedShell | undefined;
  #paused = false;
  #waiting: (() => void)[] = [];

  constructor(
    readonly cluster: Cluster,
    public traits: WorkerTraits,
    /** The person of its address. */
    readonly person: string,
  ) {
    this.sender = new Sender(cluster.world, cluster.shape.parameterBuckets, (message) => this.send(message));
    this.connect();
  }

  get world(): World {
    return this.cluster.world;
  }

  /** Calls `run` now, or when the process is continued. */
  #do(run: () => void): void {
    if (!this.alive) return;
    if (this.#paused) this.#waiting.push(run);
    else run();
  }

  after(ms: number, run: () => void): void {
    this.world.after(ms, () => this.#do(run));
  }

  /** SIGSTOP for a while; sent frames still arrive. */
  pause(ms: number): void {
    if (this.#paused || !this.alive) return;
    this.#paused = true;
    this.world.after(ms, () => {
      this.#paused = false;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const run of waiting) this.#do(run);
    });
  }

  kill(unnoticedMs: number): void {
    this.alive = false;
    this.link?.cut(unnoticedMs);
  }

  connect(): void {
    const { owner } = this.cluster;
    if (!this.alive || this.link?.open) return;
    if (owner === undefined || !owner.up || owner.stopped !== undefined) {
      this.after(this.world.integer(100, 500), () => this.connect());
      return;
    }
    const link = new Link(this.world, this.cluster.nextWorker++, owner, this, this.traits.latencyMs);
    this.link = link;
    this.#shell = new SimulatedShell(this, link);
    this.after(this.world.integer(1, 200), () => {
      // A coordinator that has ended does not know the connection.
      if (!owner.up) link.cut(0);
      if (!link.open || owner.stopped !== undefined) return;
      owner.joined(link, this.traits.bitClass);
      this.#live(link);
    });
  }

  disconnected(link: Link): void {
    if (this.link === link) this.after(this.world.integer(1, 300), () => this.connect());
  }

  #live(link: Link): void {
    if (this.traits.lifeMs === 0 || !link.open) return;
    this.send({ type: 'life' });
    this.after(this.traits.lifeMs, () => this.#live(link));
  }

  send(message: FromWorker): void {
    this.link?.up(message);
  }

  receive(link: Link, message: ToWorker): void {
    this.#do(() => {
      if (this.link === link) this.#shell?.receive(message);
    });
  }

  /** Whether a fault of this probability happens. */
  chance(p: number): boolean {
    return !this.cluster.calm && this.world.chance(p);
  }
}
