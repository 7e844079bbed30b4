import { randomBytes } from 'node:crypto';

/** The suffix of a file or folder that is being written or removed. It is never read. */
export const PARTIAL = '.partial';

/** A path beside `path` that nobody can guess, so that nobody can have put anything there. */
export function temporaryName(path: string, end: string = PARTIAL): string {
  return `${path}.${randomBytes(8).toString('hex')}${end}`;
}

/**
 * The name that the temporary name `name` was made for; undefined where it is not a temporary name with this `end`.
 * Also reads the names of version 0.1.0, which had a process id or nothing in the middle.
 */
export function baseOfTemporary(name: string, end: string = PARTIAL): string | undefined {
  if (!name.endsWith(end)) return undefined;
  return name.slice(0, -end.length).replace(/\.(\d+|[0-9a-f]{8}|[0-9a-f]{12}|[0-9a-f]{16})$/, '') || undefined;
}
