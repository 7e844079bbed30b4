import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunDirectory } from '../checkpoint/run.js';
import { courseOf } from '../report/course.js';
import { type Inexact, inexactOf } from '../report/exactness.js';
import { LossCurves } from '../report/loss-curves.js';
import type { MetricsEvent } from '../report/metrics.js';
import { sumWorkers, type WorkerTotal, workersOf } from '../report/workers.js';
import { printableLine } from '../util/printable.js';
import type { RunFacts } from '../watch/messages.js';
import { Telemetry } from '../watch/server/telemetry.js';
import type { Tell } from './tell.js';

export interface JournalOptions {
  readonly facts: RunFacts;
  /** The events that the run has already. */
  readonly past: readonly MetricsEvent[];
  /** The step that it goes on from. */
  readonly from: number;
  /** Milliseconds in which the run works. */
  readonly now: () => number;
  /** Aborted once the run is to end. */
  readonly stop: AbortSignal;
  readonly tell: Tell;
}

/**
 * The one way of an event of a run: to metrics.jsonl, to its page, and to whoever was given to `train`. Remembers what is
 * asked of the events later, so that no file is read again: the losses (16 bytes a step), marks and workers.
 */
export class RunJournal {
  /** What the page shows. */
  readonly telemetry: Telemetry;
  readonly losses: LossCurves;
  readonly #had: ReadonlySet<MetricsEvent['event']>;
  #inexact: Inexact | undefined;
  #mixed: boolean;
  #workers: readonly WorkerTotal[];

  constructor(
    private readonly run: RunDirectory,
    private readonly options: JournalOptions,
  ) {
    const { facts, past, from, now, stop } = options;
    const course = courseOf(past);
    this.telemetry = new Telemetry(facts, course, now, stop);
    this.losses = LossCurves.of(course);
    this.#had = new Set(past.filter(({ step }) => step === from).map(({ event }) => event));
    this.#inexact = inexactOf(course);
    this.#mixed = course.some(({ event }) => event === 'mixed');
    this.#workers = workersOf(course);
  }

  /** The last step that is recorded. */
  get step(): number {
    return this.telemetry.step;
  }

  /** That the run has used what was found wrong. */
  get inexact(): Inexact | undefined {
    return this.#inexact;
  }

  /** Whether workers of other bit classes took part. */
  get mixed(): boolean {
    return this.#mixed;
  }

  /** What each worker has computed in all starts of the run. */
  get workers(): readonly WorkerTotal[] {
    return this.#workers;
  }

  /** Whether the run had an event of this kind of the step that it goes on from. */
  had(kind: MetricsEvent['event']): boolean {
    return this.#had.has(kind);
  }

  /** Throws LT_RUN_WRITE where it cannot be written: then nobody is told of it. */
  record(event: MetricsEvent): void {
    this.run.append(event);
    // At once and for good: a checkpoint that it is of is there already, and outlives a power cut.
    if (event.event === 'inexact') this.run.sync();
    this.#keep(event);
    this.telemetry.event(event);
    this.options.tell(event);
  }

  /** Something that is no metrics event, for the page's log alone. */
  log(kind: string, text: string, worker?: string): void {
    this.telemetry.log(kind, text, worker);
  }

  /** The same as a line among those of the run; `line` is what it says there. */
  mention(kind: string, text: string, line = text): void {
    this.options.tell({ event: 'note', text: line });
    this.log(kind, text);
  }

  /** As `record`, for what matters less than the disk: the next event meets that, and says so. Never throws. */
  remark(event: MetricsEvent): void {
    try {
      this.record(event);
    } catch {
      this.telemetry.event(event);
    }
  }

  /**
   * The run has ended before its last step; `error`: why it failed. Never throws: a full disk may be why. False where the
   * run could not begin and is gone again, or cannot be written.
   */
  end(state: 'stopped' | 'failed', error?: unknown): boolean {
    const reason = error === undefined ? undefined : reasonOf(error);
    this.telemetry.end(state, reason);
    if (!existsSync(join(this.run.root, 'config.json'))) return false;
    const event: MetricsEvent = { event: state, step: this.step, ...(reason === undefined ? {} : { reason }) };
    try {
      this.run.append(event);
    } catch {
      return false;
    }
    this.options.tell(event);
    return true;
  }

  #keep(event: MetricsEvent): void {
    this.losses.add(event);
    if (event.event === 'inexact') this.#inexact = inexactOf([event], this.#inexact);
    else if (event.event === 'mixed') this.#mixed = true;
    else if (event.event === 'workers') this.#workers = sumWorkers([...this.#workers, ...event.workers]);
  }
}

/** The first line of an error, which is one line if it is of this program. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printableLine(text.split('\n')[0], 500);
}
