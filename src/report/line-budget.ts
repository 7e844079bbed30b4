import { Budget } from '../util/budget.js';

/** So many at once, and so many a minute from then on. */
export interface LineRate {
  readonly burst: number;
  readonly perMinute: number;
}

export interface BudgetLimits {
  /** Of all lines; absent: as many as there are kinds for. */
  readonly all?: LineRate;
  /** Of all of a kind, and of those of a kind that one person causes. */
  readonly kind: LineRate;
  readonly person: LineRate;
}

/** People who are told apart; whoever has not been heard of for longest is forgotten. */
const MOST_PEOPLE = 1000;

/** Which of the lines that others cause are written: a flood of one kind, or of one person, leaves room for others. */
export class LineBudget {
  readonly #all: Budget | undefined;
  readonly #kinds = new Map<string, Budget>();
  readonly #people = new Map<string, Budget>();

  /** Kinds are few, and the caller's own. */
  constructor(private readonly limits: BudgetLimits) {
    this.#all = limits.all && newBudget(limits.all, performance.now());
  }

  /** Whether a line may be written; if so, it counts. */
  take(kind: string, person: string): boolean {
    const now = performance.now();
    const { limits } = this;
    const ofKind = budgetOf(this.#kinds, kind, limits.kind, now);
    const ofPerson = budgetOf(this.#people, `${kind}\0${person}`, limits.person, now);
    if (this.#people.size > MOST_PEOPLE) this.#people.delete(this.#people.keys().next().value ?? '');
    const budgets = [ofKind, ofPerson, ...(this.#all ? [this.#all] : [])];
    if (budgets.some((budget) => budget.waitMs(now) > 0)) return false;
    for (const budget of budgets) budget.charge(1, now);
    return true;
  }
}

function budgetOf(budgets: Map<string, Budget>, key: string, rate: LineRate, now: number): Budget {
  const budget = budgets.get(key) ?? newBudget(rate, now);
  // The last that was asked for is the last of the map.
  budgets.delete(key);
  budgets.set(key, budget);
  return budget;
}

/** Without a debt there is room for one more line. */
function newBudget({ burst, perMinute }: LineRate, now: number): Budget {
  return new Budget(perMinute / 60, burst - 1, now);
}
