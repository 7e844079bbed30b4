import { type MetricsEvent, RUN_ENDS } from './events.js';

/** Kinds of event that occur at most once a step. */
const ONCE: ReadonlySet<MetricsEvent['event']> = new Set(['step', 'eval', 'sample', 'checkpoint']);
/** Kinds of event that belong to the state after a step. They are dropped when the run goes back before it. */
const OF_A_STEP: ReadonlySet<MetricsEvent['event']> = new Set([...ONCE, 'workers', 'inexact', 'contributed']);

/**
 * The events of a run's course. Where the run went back and computed steps again, only the later events of these steps
 * stay. A step keeps only the last event of each kind in `ONCE`. The events of an undisturbed run are returned
 * unchanged.
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

/** How a run ended. */
export interface RunEnd {
  /** `unfinished`: it was killed, or a process still trains it. */
  readonly state: 'done' | 'stopped' | 'failed' | 'unfinished';
  /** Why it failed, in words. */
  readonly reason?: string;
}

/** How a run ended, by its last ending event; `unfinished` where steps follow it. */
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
