import type { LantrainError } from '../src/errors.js';
import { personOf } from '../src/net/person.js';
import { LineBudget } from '../src/report/line-budget.js';
import { LONGEST_WORDS, printableLine } from '../src/util/printable.js';

/** Time between lines that count further refusals. */
const PERIOD_MS = 60_000;
const LIMITS = {
  all: { burst: 24, perMinute: 12 },
  kind: { burst: 8, perMinute: 6 },
  person: { burst: 4, perMinute: 3 },
};
/** Distinct addresses that are counted. */
const MOST_ADDRESSES = 1000;

/**
 * Reports refused connections. Strangers cause these lines, so their number per minute is limited by error code, by
 * address and in total. The others are counted in one line a minute.
 */
export class Refusals {
  readonly #budget = new LineBudget(LIMITS);
  readonly #more = new Map<string, number>();
  readonly #addresses = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly tell: (text: string) => void) {}

  /** `peer`: address and port. `who`: what was refused, such as `a page of `. */
  add(error: LantrainError, peer: string, who = ''): void {
    if (this.#budget.take(error.code, personOf(peer))) {
      const why = printableLine(error.message, LONGEST_WORDS);
      this.tell(`${who}${peer}: ${why}`);
      return;
    }
    this.#more.set(error.code, 1 + (this.#more.get(error.code) ?? 0));
    if (this.#addresses.size < MOST_ADDRESSES) this.#addresses.add(peer.replace(/:\d+$/, ''));
    this.#timer ??= setTimeout(() => this.flush(), PERIOD_MS).unref();
  }

  /** Reports the refusals that were only counted. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#more.size === 0) return;
    const count = (n: number) => n.toLocaleString('en');
    const all = [...this.#more.values()].reduce((sum, n) => sum + n, 0);
    const { size } = this.#addresses;
    const people = `${count(size)} ${size === 1 ? 'address' : 'addresses'}${size < MOST_ADDRESSES ? '' : ' or more'}`;
    const codes = [...this.#more].toSorted(([, a], [, b]) => b - a).map(([code, n]) => `${code} ${count(n)}`);
    const text = `${count(all)} more in the last minute, of ${people} (${codes.join(', ')})`;
    this.#more.clear();
    this.#addresses.clear();
    this.tell(text);
  }
}
