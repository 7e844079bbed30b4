import { Budget, type PersonBudgets } from '../../util/budget.js';
import type { PageMessage } from '../messages.js';
import type { Telemetry } from './telemetry.js';

export type RangeRequest = Extract<PageMessage, { type: 'range' }>;

/** Answers that are cached as text, since pages that show the same send the same request. */
const MOST_KEPT = 16;
const RETRY_MS = 100;
/** Milliseconds a second for the histories of all pages together. */
const MS_PER_SECOND = 50;
const BURST_MS = 300;

/** A page that requests parts of the history. */
export interface Asker {
  /** The person whose budget is charged. */
  readonly person: string;
  /** Whether more can be sent to it now. */
  isReady(): boolean;
  send(text: string): void;
}

/**
 * Answers requests for parts of the history, in turn and within budgets of milliseconds: of each person, and of all
 * together. At most one request of a page for the whole run and one for a zoom wait. A newer request replaces the older
 * one, whose answer would not be shown.
 */
export class HistoryAnswers {
  readonly #waiting = new Map<Asker, RangeRequest[]>();
  readonly #kept = new Map<string, string>();
  readonly #all = new Budget(MS_PER_SECOND, BURST_MS);
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly telemetry: Telemetry,
    private readonly budgets: PersonBudgets,
  ) {}

  ask(asker: Asker, request: RangeRequest): void {
    const others = (this.#waiting.get(asker) ?? []).filter(({ id }) => (id === 0) !== (request.id === 0));
    this.#waiting.set(asker, [...others, request]);
    if (this.#timer === undefined) this.#answer();
  }

  leave(asker: Asker): void {
    this.#waiting.delete(asker);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }

  #answer(): void {
    this.#timer = undefined;
    while (this.#all.waitMs() === 0) {
      const asker = [...this.#waiting.keys()].find(
        (one) => one.isReady() && this.budgets.of(one.person).waitMs() === 0,
      );
      if (asker === undefined) break;
      const [request, ...rest] = this.#waiting.get(asker) ?? [];
      // It goes to the end of the queue.
      this.#waiting.delete(asker);
      if (rest.length > 0) this.#waiting.set(asker, rest);
      const began = performance.now();
      asker.send(this.#text(request));
      const spent = performance.now() - began;
      this.#all.charge(spent);
      this.budgets.of(asker.person).charge(spent);
    }
    if (this.#waiting.size === 0) return;
    this.#timer = setTimeout(() => this.#answer(), Math.max(RETRY_MS, this.#all.waitMs()));
    this.#timer.unref();
  }

  #text({ id, from, to, points }: RangeRequest): string {
    const [begin, end] = this.telemetry.entriesOf(from, to);
    const key = `${begin} ${end} ${points}`;
    let columns = this.#kept.get(key);
    if (columns === undefined) {
      columns = JSON.stringify(this.telemetry.range(begin, end, points));
      if (this.#kept.size >= MOST_KEPT) this.#kept.delete([...this.#kept.keys()][0]);
      this.#kept.set(key, columns);
    }
    return `{"type":"history","id":${id},"columns":${columns}}`;
  }
}
