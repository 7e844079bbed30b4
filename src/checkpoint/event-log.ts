import { closeSync, fstatSync, fsyncSync, ftruncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { writeFailure, writeOwnText } from '../files/atomic.js';
import { openOwn, readOwn } from '../files/own-files.js';
import { RUN_ENDS } from '../report/events.js';
import { printable, printableJson } from '../util/printable.js';

/** The fields of a metrics event that the log uses. */
export interface LoggedEvent {
  readonly event: string;
  /** The number of steps behind the state that the event belongs to. */
  readonly step?: number;
  readonly text?: string;
}

/**
 * `metrics.jsonl` with one event a line, and `samples.txt` with its samples for people:
 *
 *     --- step 45 ---
 *     Every effort moves you ...
 *
 * `cutBack` makes samples.txt again from metrics.jsonl.
 */
export class EventLog {
  private readonly metricsPath: string;
  private readonly samplesPath: string;
  /** Open descriptors. The files were checked when they were opened. */
  private metrics: number | undefined;
  private samples: number | undefined;

  constructor(dir: string) {
    this.metricsPath = join(dir, 'metrics.jsonl');
    this.samplesPath = join(dir, 'samples.txt');
  }

  /**
   * Throws LT_RUN_WRITE or LT_RUN_FOREIGN, and then leaves nothing of the event in that file. `cutBack` drops a line
   * that a crash has cut off.
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

  /** Whether the file has an event of this kind. Lines that are not events are ignored. */
  has(kind: string): boolean {
    return readEvents(this.metricsPath).some(({ event }) => event === kind);
  }

  /** Makes what was appended durable. Throws LT_RUN_WRITE. */
  sync(): void {
    const { metrics } = this;
    if (metrics !== undefined) guard(this.metricsPath, () => fsyncSync(metrics));
  }

  /**
   * Cuts both files back to the state after `step` steps. Drops events of later steps, a half-written line, and the
   * events that end a run. Each file is replaced whole. Throws LT_RUN_WRITE.
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

/** A sample's lines in samples.txt, made printable: a model may write control characters, and terminals obey them. */
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

/** Appends `text` whole or not at all: after a failure on a full disk, the next line must not continue this one. */
function appendWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  const { size } = fstatSync(fd);
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  } catch (error) {
    try {
      ftruncateSync(fd, size);
    } catch {
      // The first failure is thrown below.
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
