import type { WorkerId } from './events.js';
import type { Policy } from './policy.js';

/** Persons that are remembered though nothing is known against them and none of their connections is there. */
const MOST_HARMLESS = 1024;

/**
 * Whom connections count for: an address, and everybody behind it. Outlives its connections, so that a new name or a
 * new connection is no new beginning. Honest workers may share an address with bad ones: what is known of a person bears
 * on votes and on connections that have not proved themselves, never on those that have.
 */
export class Person {
  /** Admitted connections. */
  connections = 0;
  /** Connections of it that were found wrong by an audit. */
  readonly wrong = new Set<WorkerId>();
  /** The first step in which something of it was used that nobody trusted has confirmed. */
  firstUnconfirmed: number | undefined;
  /** The step since which the run was said to be inexact for its sake. */
  inexactSince: number | undefined;
  /** Steps in which a refusal of it was refuted. */
  refuted: number[] = [];
  /** Until then its unproven connections are dealt nothing. */
  barredUntil = Number.NEGATIVE_INFINITY;
  #level = 0;
  #raisedAt = 0;
  #wrongBuckets = 0;
  #wrongBucketsSince = Number.NEGATIVE_INFINITY;

  constructor(
    readonly name: string,
    readonly policy: Policy,
  ) {}

  /** How often it has cost the run something lately. */
  levelAt(now: number): number {
    const quietMs = now - Math.max(this.#raisedAt, this.barredUntil);
    return Math.max(0, this.#level - Math.max(0, Math.floor(quietMs / this.policy.forgetMs)));
  }

  /** One of its connections has cost the run something, which counts once until the back-off ends. */
  raise(now: number, backOffMs: (level: number) => number): void {
    if (now < this.barredUntil && this.#level > 0) return;
    this.#level = this.levelAt(now) + 1;
    this.#raisedAt = now;
    this.bar(now + backOffMs(this.#level));
  }

  bar(until: number): void {
    this.barredUntil = Math.max(this.barredUntil, until);
  }

  /** Counts a bucket that was wrong at one of its connections; returns how many there were within a minute. */
  wrongBucket(now: number): number {
    if (now - this.#wrongBucketsSince > 60_000) {
      this.#wrongBucketsSince = now;
      this.#wrongBuckets = 0;
    }
    return ++this.#wrongBuckets;
  }

  isHarmless(now: number): boolean {
    return (
      this.connections === 0 &&
      this.wrong.size === 0 &&
      this.firstUnconfirmed === undefined &&
      this.refuted.length === 0 &&
      this.levelAt(now) === 0
    );
  }
}

export class People {
  readonly #all = new Map<string, Person>();

  constructor(
    readonly policy: Policy,
    readonly firstSteps: ReadonlyMap<string, number> = new Map(),
  ) {}

  get(name: string, now: number): Person {
    const known = this.#all.get(name);
    if (known !== undefined) return known;
    const person = new Person(name, this.policy);
    person.firstUnconfirmed = this.firstSteps.get(name);
    this.#forget(now);
    this.#all.set(name, person);
    return person;
  }

  /** The oldest first. What a person has contributed is never forgotten, and it took a contribution to be kept. */
  #forget(now: number): void {
    if (this.#all.size < MOST_HARMLESS) return;
    for (const [name, person] of this.#all) {
      if (!person.isHarmless(now)) continue;
      this.#all.delete(name);
      return;
    }
  }
}
