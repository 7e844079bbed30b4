import { LineBudget } from './line-budget.js';

/** An event that a member of the cluster causes, for metrics.jsonl or a log. */
export interface MemberEvent {
  readonly event: string;
  readonly worker?: string;
  readonly reason?: string;
  /** The number of events that it stands for; it is the last of them. */
  readonly count?: number;
}

/** Interval between the writes of what was held back. */
const PERIOD_MS = 60_000;
/**
 * When thirty workers of a classroom join at once, all their events are written. Those of a worker that joins and
 * leaves all the time are not.
 */
const LIMITS = {
  kind: { burst: 100, perMinute: 30 },
  person: { burst: 6, perMinute: 6 },
};
/** Distinct pairs of worker and reason in what is held back of one kind. */
const MOST_GROUPS = 4;

/**
 * Writes members' events one by one while they are few. Events beyond that are held back and counted: a minute later
 * the last one of each worker and reason is written with its `count`. So no member can grow a file or a page's log
 * without bound by joining and leaving in a loop, and a reader still finds every name and bit class. Exception: a
 * member that makes up new names without end is one group without a worker.
 */
export class EventThrottle<T extends MemberEvent> {
  readonly #budget = new LineBudget(LIMITS);
  /** Held back, in order of the last event. */
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

  /** Writes everything that is held back. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const held = [...this.#held.values()];
    this.#held.clear();
    for (const { last, count } of held) this.write({ ...last, count });
  }
}
