import type { WorkerId } from './events.js';
import type { Policy } from './policy.js';

/** Largest number of persons that are remembered without connections or offences. */
const MOST_HARMLESS = 1024;

/**
 * An address and everybody behind it; connections count for it. It outlives its connections, so a new name or a new
 * connection is no fresh start. Honest workers may share an address with bad ones. So a person's record affects votes
 * and unproven connections, never proven ones.
 */
export class Person {
  /** Admitted connections. */
  connections = 0;
  /** Its connections that an audit found wrong. */
  readonly wrong = new Set<WorkerId>();
  /** The first step that used a contribution of it without a trusted confirmation. */
  firstUnconfirmed: number | undefined;
  /** The step since which the run is reported as inexact because of it. */
  inexactSince: number | undefined;
  /** Steps in which one of its refusals was refuted. */
  refuted: number[] = [];
  /** Time until which its unproven connections are dealt nothing. */
  barredUntil = Number.NEGATIVE_INFINITY;
  #level = 0;
  #raisedAt = 0;
  #wrongBuckets = 0;
  #wrongBucketsSince = Number.NEGATIVE_INFINITY;

  constructor(
    readonly name: string,
    readonly policy: Policy,
  ) {}

  /** Number of recent offences; they are forgotten one by one. */
  levelAt(now: number): number {
    const quietMs = now - Math.max(this.#raisedAt, this.barredUntil);
    return Math.max(0, this.#level - Math.max(0, Math.floor(quietMs / this.policy.forgetMs)));
  }

  /** Records an offence of one of its connections. Further ones do not count until the back-off ends. */
  raise(now: number, backOffMs: (level: number) => number): void {
    if (now < this.barredUntil && this.#level > 0) return;
    this.#level = this.levelAt(now) + 1;
    this.#raisedAt = now;
    this.bar(now + backOffMs(this.#level));
  }

  bar(until: number): void {
    this.barredUntil = Math.max(this.barredUntil, until);
  }

  /** Counts a wrong bucket at one of its connections. Returns the number within a minute. */
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

  /** Forgets the oldest harmless person. Persons with unconfirmed contributions are never forgotten. */
  #forget(now: number): void {
    if (this.#all.size < MOST_HARMLESS) return;
    for (const [name, person] of this.#all) {
      if (!person.isHarmless(now)) continue;
      this.#all.delete(name);
      return;
    }
  }
}
