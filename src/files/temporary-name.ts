import { randomBytes } from 'node:crypto';

/** The end of a name that is being written or removed. Nothing that ends so is ever read. */
export const PARTIAL = '.partial';

/** A name beside `path` that nobody can guess, so that nobody can have put anything there. */
export function temporaryName(path: string, end: string = PARTIAL): string {
  return `${path}.${randomBytes(8).toString('hex')}${end}`;
}

/**
 * The name that a temporary one of that `end` was made for; undefined where it is none. Also of version 0.1.0, whose
 * names had a process number, or nothing, in the middle.
 */
export function baseOfTemporary(name: string, end: string = PARTIAL): string | undefined {
  if (!name.endsWith(end)) return undefined;
  return name.slice(0, -end.length).replace(/\.(\d+|[0-9a-f]{8}|[0-9a-f]{12}|[0-9a-f]{16})$/, '') || undefined;
}
