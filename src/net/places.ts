interface Place {
  readonly person: string;
  readonly since: number;
}

/**
 * So many places for those who have proved nothing yet. When all are taken, the person who has most gives the oldest
 * one up for a newcomer, so that whoever takes many takes them from himself.
 */
export class Places<T> {
  /** In the order in which they were taken. */
  readonly #places = new Map<T, Place>();
  readonly #counts = new Map<string, number>();

  /** `graceMs`: so long nobody has to leave for a newcomer who would have as many places as he has. */
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

  /** Takes a place for one of `person`'s: who has to leave for it, nobody, or that there is none. */
  take(one: T, person: string): { readonly leaves?: T } | 'full' {
    const leaves = this.#places.size < this.most ? undefined : this.#victim(person);
    if (leaves === 'full') return 'full';
    if (leaves !== undefined) this.leave(leaves);
    this.#places.set(one, { person, since: performance.now() });
    this.#counts.set(person, (this.#counts.get(person) ?? 0) + 1);
    return leaves === undefined ? {} : { leaves };
  }

  /** Also for who has no place any more. */
  leave(one: T): void {
    const place = this.#places.get(one);
    if (place === undefined) return;
    this.#places.delete(one);
    const left = (this.#counts.get(place.person) ?? 0) - 1;
    if (left > 0) this.#counts.set(place.person, left);
    else this.#counts.delete(place.person);
  }

  #victim(newcomer: string): T | 'full' {
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
 * The newest of a person who has more than half of `most` places, which a newcomer who is somebody else may have;
 * undefined where nobody has so many.
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
