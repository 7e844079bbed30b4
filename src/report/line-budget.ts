/** So many at once, and so many a minute from then on. */
export interface Rate {
  readonly burst: number;
  readonly perMinute: number;
}

export interface BudgetLimits {
  /** Of all lines; absent: as many as there are kinds for. */
  readonly all?: Rate;
  /** Of all of a kind, and of those of a kind that one person causes. */
  readonly kind: Rate;
  readonly person: Rate;
}

/** People who are told apart; whoever has not been heard of for longest is forgotten. */
const MOST_PEOPLE = 1000;

/** Which of the lines that others cause are written: a flood of one kind, or of one person, leaves room for others. */
export class LineBudget {
  readonly #all: Bucket | undefined;
  readonly #kinds = new Map<string, Bucket>();
  readonly #people = new Map<string, Bucket>();

  /** Kinds are few, and the caller's own. */
  constructor(private readonly limits: BudgetLimits) {
    this.#all = limits.all && new Bucket(limits.all, performance.now());
  }

  /** Whether a line may be written; if so, it counts. */
  take(kind: string, person: string): boolean {
    const now = performance.now();
    const { limits } = this;
    const ofKind = bucketOf(this.#kinds, kind, limits.kind, now);
    const ofPerson = bucketOf(this.#people, `${kind}\0${person}`, limits.person, now);
    if (this.#people.size > MOST_PEOPLE) this.#people.delete(this.#people.keys().next().value ?? '');
    const buckets = [ofKind, ofPerson, ...(this.#all ? [this.#all] : [])];
    if (!buckets.every((bucket) => bucket.has(now))) return false;
    for (const bucket of buckets) bucket.take();
    return true;
  }
}

function bucketOf(buckets: Map<string, Bucket>, key: string, rate: Rate, now: number): Bucket {
  const bucket = buckets.get(key) ?? new Bucket(rate, now);
  // The last that was asked for is the last of the map.
  buckets.delete(key);
  buckets.set(key, bucket);
  return bucket;
}

class Bucket {
  #left: number;
  #filledAtMs: number;

  constructor(
    private readonly rate: Rate,
    nowMs: number,
  ) {
    this.#left = rate.burst;
    this.#filledAtMs = nowMs;
  }

  has(nowMs: number): boolean {
    const { burst, perMinute } = this.rate;
    this.#left = Math.min(burst, this.#left + ((nowMs - this.#filledAtMs) / 60_000) * perMinute);
    this.#filledAtMs = nowMs;
    return this.#left >= 1;
  }

  take(): void {
    this.#left--;
  }
}
