interface Place {
  readonly person: string;
  readonly since: number;
}

/**
 * A fixed number of places for connections that have not proved a token. When all are taken, the person with the most
 * gives up the oldest one for a newcomer. So a person who takes many takes them from himself.
 */
export class Places<T> {
  /** In order of `take`. */
  readonly #places = new Map<T, Place>();
  readonly #counts = new Map<string, number>();

  /** `graceMs`: for this long a place is not given up for a newcomer who would then have as many as its person. */
  constructor(
    readonly most: number,
    private readonly graceMs = 1_000,
  ) {}

  get size(): number {
    return this.#places.size;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#places.keys();
  }

  /** Takes a place for `one` of `person`. `leaves`: the member that must leave for it. `full`: no place is free. */
  take(one: T, person: string): { readonly leaves?: T } | 'full' {
    const leaves = this.#places.size < this.most ? undefined : this.#leaver(person);
    if (leaves === 'full') return 'full';
    if (leaves !== undefined) this.leave(leaves);
    this.#places.set(one, { person, since: performance.now() });
    this.#counts.set(person, (this.#counts.get(person) ?? 0) + 1);
    return leaves === undefined ? {} : { leaves };
  }

  /** Frees the place of `one`, if it has one. */
  leave(one: T): void {
    const place = this.#places.get(one);
    if (place === undefined) return;
    this.#places.delete(one);
    const left = (this.#counts.get(place.person) ?? 0) - 1;
    if (left > 0) this.#counts.set(place.person, left);
    else this.#counts.delete(place.person);
  }

  #leaver(newcomer: string): T | 'full' {
    const most = Math.max(...this.#counts.values());
    const wanted = (this.#counts.get(newcomer) ?? 0) + 1;
    for (const [one, { person, since }] of this.#places) {
      if (this.#counts.get(person) !== most || (wanted > most && person !== newcomer)) continue;
      const isOwed = person !== newcomer && most > wanted;
      return isOwed || performance.now() - since > this.graceMs ? one : 'full';
    }
    return 'full';
  }
}

/**
 * The member that has to leave for `newcomer` when all `most` places are taken: the newest one of another person who
 * has more than half of them. Undefined where no other person has more than half.
 */
export function superfluous<T>(
  members: Iterable<T>,
  personOf: (member: T) => string,
  most: number,
  newcomer: string,
): T | undefined {
  const newest = new Map<string, { readonly count: number; readonly member: T }>();
  for (const member of members) {
    const person = personOf(member);
    newest.set(person, { count: (newest.get(person)?.count ?? 0) + 1, member });
  }
  for (const [person, { count, member }] of newest) if (person !== newcomer && 2 * count > most) return member;
  return undefined;
}
