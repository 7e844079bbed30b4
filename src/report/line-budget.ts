import { Budget } from '../util/budget.js';

/** `burst` lines at once, then `perMinute`. */
export interface LineRate {
  readonly burst: number;
  readonly perMinute: number;
}

export interface BudgetLimits {
  /** Limit of all lines together; absent: none. */
  readonly all?: LineRate;
  /** Limits of one kind of line, and of one kind from one person. */
  readonly kind: LineRate;
  readonly person: LineRate;
}

/** Persons that are remembered. The one not seen for longest is forgotten first. */
const MOST_PERSONS = 1000;

/** Decides which lines that others cause are written: a flood of one kind or from one person leaves room for others. */
export class LineBudget {
  readonly #all: Budget | undefined;
  readonly #kinds = new Map<string, Budget>();
  readonly #persons = new Map<string, Budget>();

  /** `take`'s kinds must be few and fixed by the caller, because they are never forgotten. */
  constructor(private readonly limits: BudgetLimits) {
    this.#all = limits.all && newBudget(limits.all, performance.now());
  }

  /** Whether a line may be written. If so, it is counted. */
  take(kind: string, person: string): boolean {
    const now = performance.now();
    const { limits } = this;
    const ofKind = budgetOf(this.#kinds, kind, limits.kind, now);
    const ofPerson = budgetOf(this.#persons, `${kind}\0${person}`, limits.person, now);
    if (this.#persons.size > MOST_PERSONS) this.#persons.delete(this.#persons.keys().next().value ?? '');
    const budgets = [ofKind, ofPerson, ...(this.#all ? [this.#all] : [])];
    if (budgets.some((budget) => budget.waitMs(now) > 0)) return false;
    for (const budget of budgets) budget.charge(1, now);
    return true;
  }
}

function budgetOf(budgets: Map<string, Budget>, key: string, rate: LineRate, now: number): Budget {
  const budget = budgets.get(key) ?? newBudget(rate, now);
  // The most recently used one is the last in the map.
  budgets.delete(key);
  budgets.set(key, budget);
  return budget;
}

/** `burst` - 1, because a budget without a debt always allows one more line. */
function newBudget({ burst, perMinute }: LineRate, now: number): Budget {
  return new Budget(perMinute / 60, burst - 1, now);
}
