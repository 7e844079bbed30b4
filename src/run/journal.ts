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
  /** The events in metrics.jsonl so far. */
  readonly past: readonly MetricsEvent[];
  /** The step that the run goes on from. */
  readonly from: number;
  /** The run's clock in milliseconds, without standstills. */
  readonly now: () => number;
  /** Aborted once the run is to end. */
  readonly stop: AbortSignal;
  readonly tell: Tell;
}

/**
 * Takes every event of a run to metrics.jsonl, to its page, and to the caller of `train`. It keeps what is needed of
 * the events later, so that no file is read again: the losses (16 bytes a step), the inexact mark and the workers'
 * totals.
 */
export class RunJournal {
  /** The source of the page. */
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

  /** The last recorded step. */
  get step(): number {
    return this.telemetry.step;
  }

  /** Defined where the run has used a wrong result. */
  get inexact(): Inexact | undefined {
    return this.#inexact;
  }

  /** Whether workers of other bit classes than the owner's took part. */
  get mixed(): boolean {
    return this.#mixed;
  }

  /** What each worker computed, in all starts of the run. */
  get workers(): readonly WorkerTotal[] {
    return this.#workers;
  }

  /** Whether the file has an event of this kind for the step that the run goes on from. */
  had(kind: MetricsEvent['event']): boolean {
    return this.#had.has(kind);
  }

  /** Writes an event and tells it. Throws LT_RUN_WRITE where it cannot be written; then nobody is told. */
  record(event: MetricsEvent): void {
    this.run.append(event);
    // Made durable at once: a checkpoint with the wrong result may be on disk already and survive a power cut.
    if (event.event === 'inexact') this.run.sync();
    this.#keep(event);
    this.telemetry.event(event);
    this.options.tell(event);
  }

  /** Adds a line to the page's log only. */
  log(kind: string, text: string, worker?: string): void {
    this.telemetry.log(kind, text, worker);
  }

  /** As `log`, and also tells `line` as a note. */
  mention(kind: string, text: string, line = text): void {
    this.options.tell({ event: 'note', text: line });
    this.log(kind, text);
  }

  /** As `record`, for an event that may be lost on a full disk; the next recorded event then fails. Never throws. */
  remark(event: MetricsEvent): void {
    try {
      this.record(event);
    } catch {
      this.telemetry.event(event);
    }
  }

  /**
   * Records that the run ended before its last step. `error`: why it failed. Never throws, as a full disk may be the
   * reason. Returns false where the event was not written: a new run was removed, or the file cannot be written.
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

/** The first line of an error; a LantrainError has only one. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printableLine(text.split('\n')[0], 500);
}
