import { courseOf } from './course.js';
import { type MetricsEvent, parseMetrics } from './events.js';

/** That a run has used what is found wrong. */
export interface Inexact {
  /** The first step that may be wrong. */
  readonly since: number;
  /** Who was found wrong, by name. */
  readonly workers: readonly string[];
}

/** Undefined for a run of which nothing that it used was found wrong; `before`: what is known already. */
export function inexactOf(events: readonly MetricsEvent[], before?: Inexact): Inexact | undefined {
  const marks = courseOf(events).flatMap((event) => (event.event === 'inexact' ? [event] : []));
  if (marks.length === 0) return before;
  const workers = marks.flatMap(({ worker }) => (worker === undefined ? [] : [worker]));
  const since = marks.map(({ step = 0 }) => step);
  return {
    since: Math.min(before?.since ?? Number.POSITIVE_INFINITY, ...since),
    workers: [...new Set([...(before?.workers ?? []), ...workers])],
  };
}

/** What a mark says, as one clause: `not exact since step 12: bob lied or has faulty memory`. */
export function inexactText({ since, workers }: Inexact): string {
  const names = workers.length > 0 ? workers.join(', ') : 'a worker';
  const verb = workers.length > 1 ? 'lied or have' : 'lied or has';
  return `not exact since step ${since}: ${names} ${verb} faulty memory`;
}

/**
 * By person, the first step up to `last` to which it contributed something that nobody has confirmed, by the lines of a
 * metrics.jsonl. Lines that are no events are passed over, as a resume does.
 */
export function firstStepsIn(lines: Iterable<string>, last: number): Map<string, number> {
  const first = new Map<string, number>();
  for (const line of lines) {
    if (!line.includes('"contributed"')) continue;
    for (const event of eventsIn(line))
      if (event.event === 'contributed' && event.step <= last)
        first.set(event.person, Math.min(event.step, first.get(event.person) ?? Number.POSITIVE_INFINITY));
  }
  return first;
}

function eventsIn(line: string): readonly MetricsEvent[] {
  try {
    return parseMetrics(line);
  } catch {
    return [];
  }
}
