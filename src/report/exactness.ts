import { courseOf } from './course.js';
import { type MetricsEvent, parseMetrics } from './events.js';

/** The mark of a run that has used a wrong result of a worker. */
export interface Inexact {
  /** The first step that may be inexact. */
  readonly since: number;
  /** Names of the workers that were found wrong. */
  readonly workers: readonly string[];
}

/** The mark of a run by its events; undefined where it used nothing wrong. `before`: the mark of earlier events. */
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

/** A mark as one clause: `not exact since step 12: bob lied or has faulty memory`. */
export function inexactText({ since, workers }: Inexact): string {
  const names = workers.length > 0 ? workers.join(', ') : 'a worker';
  const verb = workers.length > 1 ? 'lied or have' : 'lied or has';
  return `not exact since step ${since}: ${names} ${verb} faulty memory`;
}

/**
 * For each person, the first step up to `last` with an unconfirmed contribution of theirs, by the lines of a
 * metrics.jsonl. Lines that are not events are skipped, as in a resume.
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
