import { EventThrottle, type MemberEvent } from '../src/report/event-throttle.js';
import { formatDuration, reasonOf } from '../src/report/format.js';
import type { ClusterEvent } from '../src/report/metrics.js';
import type { StartedRun } from '../src/run/backend.js';
import { noting } from '../src/run/tell.js';
import type { ClusterEngine } from './coordinator/engine.js';
import type { RoundNote } from './round/round.js';

/** Workers that a line names; the others are counted. */
const MOST_NAMED = 5;

/** Notes that are no metrics events but belong in the page's log, with their text where the note has no reason. */
const RETRIES: Readonly<Record<string, string>> = {
  stale: '',
  audit: '',
  late: 'its work was dealt to another worker as well',
  refuted: 'it refused what others have computed',
  unfence: 'works again in the same step',
  unaudited: 'used unaudited: there is no second worker of its bit class',
};

/**
 * Turns the round's notes into events of the run, lines for the terminal and entries of the page's log. What workers
 * cause is thinned out, so that nobody can fill the disk.
 */
export class ClusterNews {
  readonly #events: EventThrottle<ClusterEvent>;
  readonly #lines: EventThrottle<MemberEvent>;
  readonly #log: EventThrottle<MemberEvent>;

  constructor(
    private readonly engine: ClusterEngine,
    private readonly started: StartedRun,
  ) {
    const { journal, tell } = started;
    this.#events = new EventThrottle((event) => {
      try {
        journal.record(event);
      } catch (error) {
        // A timer may have called this, and nothing catches what a timer throws.
        engine.abandon(error as Error);
      }
    });
    this.#lines = new EventThrottle((one) => noting(tell)(reasonOf(one)));
    this.#log = new EventThrottle((one) => journal.log(one.event, reasonOf(one), one.worker));
  }

  tell(note: RoundNote, step: number): void {
    const { engine, started } = this;
    const { journal } = started;
    if (note.note === 'contributed') {
      journal.record({ event: 'contributed', step: note.step, person: note.person });
      return;
    }
    if (note.note === 'inexact') {
      const worker = engine.nameOf(note.worker);
      journal.record({ event: 'inexact', step: note.since, worker, reason: note.reason });
      return;
    }
    const event = metricsEventOf(note, step, engine);
    if (event !== undefined) {
      this.#events.add(event);
      return;
    }
    const worker = 'worker' in note && note.worker !== undefined ? engine.nameOf(note.worker) : undefined;
    const line = lineOf(note, engine);
    if (line) this.#lines.add({ event: note.note, worker, reason: line });
    if (note.note === 'waiting') started.waiting(true);
    else if (note.note === 'going-on') started.waiting(false);
    if (note.note in RETRIES)
      this.#log.add({ event: note.note, worker, reason: 'reason' in note ? note.reason : RETRIES[note.note] });
  }

  /** Records the events that are held back. */
  flushEvents(): void {
    this.#events.flush();
  }

  /** Tells all that is held back. */
  flush(): void {
    this.flushEvents();
    this.#lines.flush();
    this.#log.flush();
  }
}

function namesOf(engine: ClusterEngine, workers: readonly number[]): string {
  const names = workers.slice(0, MOST_NAMED).map((worker) => engine.nameOf(worker));
  return [...names, ...(workers.length > MOST_NAMED ? [`${workers.length - MOST_NAMED} more`] : [])].join(', ');
}

/** The metrics event of a note, for those notes that are events. */
function metricsEventOf(note: RoundNote, step: number, engine: ClusterEngine) {
  const worker = 'worker' in note && note.worker !== undefined ? engine.nameOf(note.worker) : undefined;
  switch (note.note) {
    case 'join':
      return { event: 'join', step, worker, reason: `bit class ${note.bitClass}` } as const;
    case 'mixed':
      return {
        event: 'mixed',
        step,
        worker,
        reason: `bit class ${note.bitClass}, the owner's is ${engine.options.ownClass.name}: the digest is not exact from here`,
      } as const;
    case 'awaited':
      return {
        event: 'awaited',
        step,
        worker: namesOf(engine, note.workers),
        reason: `for ${formatDuration(note.waitedMs / 1000)}`,
      } as const;
    case 'leave':
    case 'fence':
    case 'refuse':
      return { event: note.note, step, worker, reason: note.reason } as const;
    default:
      return undefined;
  }
}

function lineOf(note: RoundNote, engine: ClusterEngine): string | undefined {
  switch (note.note) {
    case 'waiting':
      return 'waiting for workers';
    case 'going-on':
      return 'going on';
    case 'audit':
      return `audit    ${engine.nameOf(note.worker)}, bucket ${note.bucket}: ${note.reason}`;
    default:
      return undefined;
  }
}
