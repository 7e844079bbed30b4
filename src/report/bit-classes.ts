import type { MetricsEvent } from './events.js';

/** At least this many characters of both hashes are shown. */
const LEAST = 4;

/** The class of all adapters that compute portable arithmetic; other classes are hashes. */
const PORTABLE = 'portable';

/**
 * Names for bit classes, all different: a letter by position, and as much of both hashes as tells them apart, `A
 * 1f3c-90ab`. A class without hashes is a letter and its own text; that of portable arithmetic is `portable`.
 */
export function nameBitClasses(classes: readonly string[]): ReadonlyMap<string, string> {
  const distinct = [...new Set(classes)];
  const shorten = (bitClass: string, length: number) =>
    bitClass
      .split('-')
      .map((hash) => hash.slice(0, length))
      .join('-');
  const longest = distinct.reduce((most, { length }) => Math.max(most, length), LEAST);
  let length = LEAST;
  while (length < longest && new Set(distinct.map((one) => shorten(one, length))).size < distinct.length) length++;
  return new Map(
    distinct.map((one, i) => [one, one === PORTABLE ? PORTABLE : `${letterOf(i)} ${shorten(one, length)}`]),
  );
}

/** A ... Z, AA, AB ... */
function letterOf(index: number): string {
  const before = index >= 26 ? letterOf(Math.floor(index / 26) - 1) : '';
  return before + String.fromCharCode(65 + (index % 26));
}

const CLASS = /bit class (\S+?)(?=,|$)/;
const OWNERS_CLASS = /the owner's is (\S+?)(?=:|,|$)/;

/** The bit classes in a run, the owner's first if it is known, and whether there were several. */
export function bitClassesOf(events: readonly MetricsEvent[]): {
  readonly classes: readonly string[];
  readonly mixed: boolean;
} {
  const own = new Set<string>();
  const others = new Set<string>();
  let mixed = false;
  for (const event of events) {
    if (event.event === 'mixed') {
      mixed = true;
      const owner = OWNERS_CLASS.exec(event.reason ?? '')?.[1];
      if (owner !== undefined) own.add(owner);
    }
    if (event.event === 'mixed' || event.event === 'join') {
      const bitClass = CLASS.exec(event.reason ?? '')?.[1];
      if (bitClass !== undefined) others.add(bitClass);
    }
    if (event.event === 'workers') for (const { bitClass } of event.workers) if (bitClass !== '') others.add(bitClass);
  }
  return { classes: [...new Set([...own, ...others])], mixed };
}
