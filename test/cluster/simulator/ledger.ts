import type { RoundAction, RoundNote, WorkerId } from '../../../cluster/round/round.js';
import { must } from './owner.js';

interface FalseUse {
  readonly step: number;
  /** All persons that sent it. */
  readonly persons: ReadonlySet<string>;
}

/**
 * What the simulator knows about lies, and what the round has reported about them. What is on disk outlives
 * coordinators.
 */
export class Ledger {
  /** False contributions in the sums of steps, oldest first. */
  falseUses: FalseUse[] = [];
  /** Assignments with a false contribution that was not stale. */
  readonly lies = new Set<string>();
  /** By person, the step since which the run was reported as inexact. */
  inexact = new Map<string, number>();
  /** By person, the first step with an unconfirmed contribution. */
  contributed = new Map<string, number>();
  /** Persons that this coordinator has found wrong. */
  found = new Set<string>();
  readonly #claims = new Map<string, Set<string>>();
  /** Assignments of the current job, and events that may cause some. */
  #assigns = 0;
  #causes = 0;
  mostAssigns = 0;
  /** Evaluations that were believed not to be finite. */
  evaluationsRefused = 0;

  readonly #persons = new Map<WorkerId, string>();

  personOf(worker: WorkerId): string {
    const person = this.#persons.get(worker);
    must(person !== undefined, `there was no worker ${worker}`);
    return person;
  }

  /** A new coordinator starts at `version`: events of later steps are removed. */
  restart(version: number): void {
    this.falseUses = this.falseUses.filter((use) => use.step <= version);
    for (const map of [this.inexact, this.contributed])
      for (const [person, step] of map) if (step > version) map.delete(person);
    this.found.clear();
    this.#claims.clear();
  }

  /** `person` has sent a false sum of these micro-batches. */
  said(place: string, person: string, assignment: string): void {
    this.lies.add(`${person} ${assignment}`);
    const persons = this.#claims.get(place) ?? new Set();
    this.#claims.set(place, persons.add(person));
  }

  /** A false contribution was added to a sum. */
  used(place: string, step: number): void {
    this.falseUses.push({ step, persons: this.#claims.get(place) ?? new Set() });
  }

  jobBegins(microBatches: number, workers: number): void {
    this.#assigns = 0;
    this.#causes = microBatches + workers;
    this.#claims.clear();
  }

  joins(worker: WorkerId, person: string): void {
    this.#persons.set(worker, person);
    this.cause();
  }

  /** Something happened that may cause one more assignment: a join, a departure, a bad frame. */
  cause(): void {
    this.#causes++;
  }

  told(action: RoundAction): void {
    if (action.type === 'assign') {
      this.#assigns++;
      this.mostAssigns = Math.max(this.mostAssigns, this.#assigns / this.#causes);
      must(this.#assigns <= 8 * this.#causes, `${this.#assigns} assignments of a job of ${this.#causes}`);
    } else if (action.type === 'close') {
      this.#causes++;
      if (action.code === 'LT_CLUSTER_AUDIT') this.found.add(this.personOf(action.worker));
    } else if (action.type === 'log') this.#noted(action.note, action.step);
  }

  #noted(note: RoundNote, step: number): void {
    // Back-offs that yield and late work may go on for ever, so their rate is bounded.
    if (note.note === 'unfence' || note.note === 'late' || note.note === 'fence') this.#causes++;
    if (note.note === 'contributed') {
      must(note.step === step, 'contributed in another step');
      this.contributed.set(note.person, note.step);
    }
    if (note.note !== 'inexact') return;
    const person = this.personOf(note.worker);
    must(note.since <= step, 'not exact since a step that is to come');
    this.inexact.set(person, Math.min(note.since, this.inexact.get(person) ?? Number.POSITIVE_INFINITY));
  }

  /** Checks that the run is marked for every false contribution of persons that were found wrong. */
  check(): void {
    for (const person of this.found) {
      const first = this.falseUses.find((use) => use.persons.has(person));
      if (first === undefined) continue;
      const since = Math.min(...this.inexact.values());
      must(since <= first.step, `${person} was found wrong, and its lie of step ${first.step} is not marked`);
    }
  }
}
