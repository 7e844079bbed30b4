import { closeSync, fstatSync, fsyncSync, ftruncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { writeFailure, writeOwnText } from '../files/atomic.js';
import { openOwn, readOwn } from '../files/own-files.js';
import { RUN_ENDS } from '../report/events.js';
import { printable, printableJson } from '../util/printable.js';

/** Any metrics event, as far as a file of them needs to know it. */
export interface LoggedEvent {
  readonly event: string;
  /** The event belongs to the state after this many updates. */
  readonly step?: number;
  readonly text?: string;
}

/**
 * `metrics.jsonl`, one event a line, and `samples.txt`, which is those of its events that are samples, for people:
 *
 *     --- step 45 ---
 *     Every effort moves you ...
 *
 * samples.txt is thus always made again from metrics.jsonl and needs no cutting of its own.
 */
export class EventLog {
  private readonly metricsPath: string;
  private readonly samplesPath: string;
  /** Descriptors: what they were opened as was checked once. */
  private metrics: number | undefined;
  private samples: number | undefined;

  constructor(dir: string) {
    this.metricsPath = join(dir, 'metrics.jsonl');
    this.samplesPath = join(dir, 'samples.txt');
  }

  /**
   * Throws LT_RUN_WRITE or LT_RUN_FOREIGN, and leaves nothing of the event then. A line that a crash has cut off is
   * dropped by `cutBack`.
   */
  append(event: LoggedEvent): void {
    guard(this.metricsPath, () => {
      this.metrics ??= openOwn(this.metricsPath, 'append');
      appendWhole(this.metrics, `${printableJson(event)}\n`);
    });
    if (event.event === 'sample')
      guard(this.samplesPath, () => {
        this.samples ??= openOwn(this.samplesPath, 'append');
        appendWhole(this.samples, sampleBlock(event));
      });
  }

  /** Whether there is an event of a kind; a line that is no event counts as none. */
  has(kind: string): boolean {
    return readEvents(this.metricsPath).some(({ event }) => event === kind);
  }

  /** Makes what was appended durable. Throws LT_RUN_WRITE. */
  sync(): void {
    const { metrics } = this;
    if (metrics !== undefined) guard(this.metricsPath, () => fsyncSync(metrics));
  }

  /**
   * Back to the state after `step` updates, for a run that goes on from there: events of later steps, a half-written
   * line and how the run ended (it goes on) go. Each file is replaced whole. Throws LT_RUN_WRITE.
   */
  async cutBack(step: number): Promise<void> {
    this.close();
    const kept = readEvents(this.metricsPath).filter(
      (event) => !RUN_ENDS.has(event.event) && (event.step === undefined || event.step <= step),
    );
    await writeOwnText(this.metricsPath, kept.map((event) => `${printableJson(event)}\n`).join(''));
    const samples = kept.filter(({ event }) => event === 'sample');
    if (samples.length > 0 || readText(this.samplesPath) !== '')
      await writeOwnText(this.samplesPath, samples.map(sampleBlock).join(''));
  }

  close(): void {
    for (const fd of [this.metrics, this.samples]) if (fd !== undefined) closeSync(fd);
    this.metrics = undefined;
    this.samples = undefined;
  }
}

/** A model may write control characters, and whoever prints the file has a terminal that obeys them. */
function sampleBlock({ step, text = '' }: LoggedEvent): string {
  return `--- step ${step} ---\n${printable(text)}\n\n`;
}

function readEvents(path: string): LoggedEvent[] {
  const events: LoggedEvent[] = [];
  for (const line of readText(path).split('\n')) {
    try {
      const event = JSON.parse(line);
      if (typeof event?.event === 'string') events.push(event);
    } catch {}
  }
  return events;
}

function readText(path: string): string {
  try {
    return readOwn(path, Number.POSITIVE_INFINITY) ?? '';
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** Where a disk is full, the next line must not go on in the middle of this one. */
function appendWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  const { size } = fstatSync(fd);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  } catch (error) {
    try {
      ftruncateSync(fd, size);
    } catch {
      // What failed first is told.
    }
    throw error;
  }
}

function guard(path: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    throw writeFailure(path, error);
  }
}
