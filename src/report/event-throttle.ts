import { LineBudget } from './line-budget.js';

/** Something that a member of the cluster causes, such as an event of metrics.jsonl. */
export interface MemberEvent {
  readonly event: string;
  readonly worker?: string;
  readonly reason?: string;
  /** It stands for so many, of which it is the last. */
  readonly count?: number;
}

/** Between what is written for those that were not written one by one. */
const PERIOD_MS = 60_000;
/** A class of thirty that joins at once is written one by one; one who comes and goes all the time is not. */
const LIMITS = {
  kind: { burst: 100, perMinute: 30 },
  person: { burst: 6, perMinute: 6 },
};
/** Workers and reasons of a kind that are told apart in what was held back. */
const MOST_GROUPS = 4;

/**
 * Writes what members cause one by one as long as that is little. What is more is held back and counted: a minute later
 * the last one of each worker and reason is written with the `count` of all. So nobody grows a file or a page's log
 * without bound by joining and leaving in a loop, and whoever reads it still finds every name and bit class, but for
 * those of a member that makes up new ones without end: they are one group without a worker.
 */
export class EventThrottle<T extends MemberEvent> {
  readonly #budget = new LineBudget(LIMITS);
  /** By the time of their last one. */
  readonly #held = new Map<string, { readonly last: T; readonly count: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly write: (one: T) => void) {}

  add(one: T): void {
    if (this.#budget.take(one.event, one.worker ?? '')) {
      this.write(one);
      return;
    }
    const own = JSON.stringify([one.event, one.worker, one.reason]);
    const groups = [...this.#held.values()].filter(({ last }) => last.event === one.event).length;
    const isOwn = this.#held.has(own) || groups < MOST_GROUPS;
    const key = isOwn ? own : JSON.stringify([one.event]);
    const { worker: _, ...nameless } = one;
    const count = 1 + (this.#held.get(key)?.count ?? 0);
    this.#held.delete(key);
    this.#held.set(key, { last: isOwn ? one : (nameless as T), count });
    this.#timer ??= setTimeout(() => this.flush(), PERIOD_MS).unref();
  }

  /** Writes what is held back, as of now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { last, count } of held) this.write({ ...last, count });
  }
}
