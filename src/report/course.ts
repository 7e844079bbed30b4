import { type MetricsEvent, RUN_ENDS } from './events.js';

/** Kinds of event that a step has at most one of. */
const ONCE: ReadonlySet<MetricsEvent['event']> = new Set(['step', 'eval', 'sample', 'checkpoint']);
/** What belongs to the state after a step, and is undone when the run goes back behind it. */
const OF_A_STEP: ReadonlySet<MetricsEvent['event']> = new Set([...ONCE, 'workers', 'inexact', 'contributed']);

/**
 * The events of the one course that a run has taken: where it went back and computed steps again, those of before are
 * left out, and of what is said twice of a step the last stays. What was written by one undisturbed run comes back as
 * it is.
 */
export function courseOf(events: readonly MetricsEvent[]): MetricsEvent[] {
  let course: (MetricsEvent | undefined)[] = [];
  const places = new Map<string, number>();
  let last = 0;
  for (const event of events) {
    if (event.event === 'step') {
      if (event.step <= last)
        course = course.map((e) => (e && OF_A_STEP.has(e.event) && (e.step ?? 0) >= event.step ? undefined : e));
      last = event.step;
    }
    if (ONCE.has(event.event)) {
      const key = `${event.event} ${event.step}`;
      const before = places.get(key);
      if (before !== undefined) course[before] = undefined;
      places.set(key, course.length);
    }
    course.push(event);
  }
  return course.filter((event) => event !== undefined);
}

/** How a run ended that is not being trained. */
export interface RunEnd {
  /** `unfinished`: it was killed, or another process is still at it. */
  readonly state: 'done' | 'stopped' | 'failed' | 'unfinished';
  /** Of what failed. */
  readonly reason?: string;
}

/** By the last event that ends a run, unless steps came after it. */
export function endOf(events: readonly MetricsEvent[]): RunEnd {
  const end = events.findLast(({ event }) => RUN_ENDS.has(event) || event === 'step');
  switch (end?.event) {
    case 'done':
    case 'stopped':
      return { state: end.event };
    case 'failed':
      return { state: 'failed', reason: end.reason };
    default:
      return { state: 'unfinished' };
  }
}
