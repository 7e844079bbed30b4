import type { z } from 'zod';

export type Validated<T> =
  | { readonly ok: true; readonly data: T }
  /**
   * `wrong`: the faults with their paths, in one line. `path` (dotted, empty for the value itself) and `words`: the
   * first fault.
   */
  | { readonly ok: false; readonly wrong: string; readonly path: string; readonly words: string };

/** Faults that are listed; a file with more is probably of another kind. */
const MOST_FAULTS = 3;

/**
 * `value` parsed by `schema`, or its faults in words that continue a sentence after its name: `must be at least 1`. A
 * schema's own messages are used; zod's are never shown to a user.
 */
export function validate<T>(schema: z.ZodType<T>, value: unknown): Validated<T> {
  const parsed = schema.safeParse(value, { error: wordsOf });
  if (parsed.success) return { ok: true, data: parsed.data };
  const faults = parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), words: message }));
  const told = faults.slice(0, MOST_FAULTS).map(({ path, words }) => `${path || 'it'} ${words}`);
  const more = faults.length > told.length ? [`and ${faults.length - told.length} more`] : [];
  return { ok: false, wrong: [...told, ...more].join('; '), ...faults[0] };
}

const KINDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'a list',
  tuple: 'a list',
};

function wordsOf(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.input === undefined) return 'is missing';
      if (typeof issue.input === 'number' && issue.expected === 'number') return 'must be a finite number';
      return `must be ${KINDS[issue.expected] ?? 'something else'}`;
    case 'too_small':
      return bound(issue.origin, Number(issue.minimum), issue.inclusive === false ? 'above' : 'at least');
    case 'too_big':
      return bound(issue.origin, Number(issue.maximum), issue.inclusive === false ? 'below' : 'at most');
    case 'invalid_value':
      if (issue.input === undefined) return 'is missing';
      return `must be ${(issue.values as readonly unknown[]).map(String).join(' or ')}`;
    case 'unrecognized_keys':
      return `has ${(issue.keys as readonly string[]).join(', ')}, which do not belong there`;
    case 'invalid_format':
      return 'has the wrong form';
    default:
      return 'is none of what it may be';
  }
}

function bound(origin: string, limit: number, how: 'above' | 'at least' | 'below' | 'at most'): string {
  if (origin === 'string')
    return limit === 1 && how === 'at least' ? 'is empty' : `must have ${how} ${limit} characters`;
  if (origin === 'array') return `must have ${how} ${limit} entries`;
  return `must be ${how} ${limit}`;
}
