import { MultiBar, type SingleBar } from 'cli-progress';
import { printable, printableJson, printableLine } from '../util/printable.js';
import { withCursor } from '../util/terminal.js';
import { describe, epochOf, formatCount, formatDuration, formatLoss, type RunInfo } from './format.js';
import type { MetricsEvent, StepEvent } from './metrics.js';

export type { RunInfo } from './format.js';

/** Where a run shows itself. `start` comes first, `stop` last and on every way out; both may be left out. */
export interface Reporter {
  start(info: RunInfo): void;
  event(event: MetricsEvent): void;
  /** Whether notes go to a terminal, where nobody reads them but who sits there. */
  readonly isPrivate?: boolean;
  /** A line that is no metrics event, such as the memory budget or a warning. It is shown as one line, whatever is in it. */
  note(line: string): void;
  stop(): void;
}

export interface ReporterOptions {
  /** Each metrics event as one line of JSON on `stream`, and nothing else there. */
  readonly json: boolean;
  /** Standard output by default. */
  readonly stream?: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  /** Takes the notes where `json` has `stream` to itself; standard error by default. */
  readonly errors?: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Milliseconds in which the run works, see `RunClock`; the monotonic clock if absent. */
  readonly now?: () => number;
}

/** JSON lines where asked for, one moving line on a terminal, plain lines elsewhere. */
export function createReporter(options: ReporterOptions): Reporter {
  const { json, stream = process.stdout, errors = process.stderr, now = () => performance.now() } = options;
  if (json) return new JsonReporter(stream, errors);
  return stream.isTTY ? new TerminalReporter(stream, now) : new PlainReporter(stream, now);
}

class JsonReporter implements Reporter {
  constructor(
    private readonly stream: NodeJS.WritableStream,
    private readonly errors: NodeJS.WritableStream & { readonly isTTY?: boolean },
  ) {}

  get isPrivate(): boolean {
    return this.errors.isTTY === true;
  }

  start(info: RunInfo): void {
    this.note(info.title);
  }
  event(event: MetricsEvent): void {
    this.stream.write(`${printableJson(event)}\n`);
  }
  note(line: string): void {
    this.errors.write(`${printableLine(line)}\n`);
  }
  stop(): void {}
}

/** Time left, from all steps of this process: evaluations and checkpoints count as what they cost on the average. */
class Pace {
  private readonly startMs: number;

  constructor(
    private readonly info: RunInfo,
    private readonly now: () => number,
  ) {
    this.startMs = now();
  }

  secondsLeft(step: number): number {
    const { firstStep, steps } = this.info;
    return step > firstStep ? ((this.now() - this.startMs) / 1000 / (step - firstStep)) * (steps - step) : Number.NaN;
  }
}

const UNTITLED: RunInfo = { title: '', steps: 1, firstStep: 0, stepsPerEpoch: 1 };
const PLAIN_INTERVAL_MS = 10_000;

/** One progress line every ten seconds at most; everything else at once. */
class PlainReporter implements Reporter {
  readonly isPrivate = false;
  private info = UNTITLED;
  private pace: Pace;
  private lastMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly stream: NodeJS.WritableStream,
    private readonly now: () => number,
  ) {
    this.pace = new Pace(this.info, now);
  }

  start(info: RunInfo): void {
    this.info = info;
    this.pace = new Pace(info, this.now);
    this.note(info.title);
  }

  event(event: MetricsEvent): void {
    if (event.event === 'step') {
      if (this.now() - this.lastMs < PLAIN_INTERVAL_MS) return;
      this.lastMs = this.now();
      this.print(progressFields(event, this.info, this.pace.secondsLeft(event.step)).join('   '));
    } else {
      this.print(describe(event, this.info) ?? '');
    }
  }

  note(line: string): void {
    this.print(printableLine(line));
  }

  private print(text: string): void {
    this.stream.write(`${text}\n`);
  }

  stop(): void {}
}

const REDRAWS_PER_SECOND = 8;

/**
 * The bar is drawn by cli-progress's MultiBar, the one of its classes that prints above a bar: `log` holds lines back
 * until the next redraw, which puts them where the bar was and draws it anew below.
 */
class TerminalReporter implements Reporter {
  readonly isPrivate = true;
  private info = UNTITLED;
  private pace: Pace;
  private bars: MultiBar | undefined;
  private bar: SingleBar | undefined;
  private latest: StepEvent | undefined;

  constructor(
    private readonly stream: NonNullable<ReporterOptions['stream']>,
    private readonly now: () => number,
  ) {
    this.pace = new Pace(this.info, now);
  }

  start(info: RunInfo): void {
    this.stop();
    this.note(info.title);
    this.info = info;
    this.pace = new Pace(info, this.now);
    this.latest = undefined;
    this.bars = new MultiBar({
      stream: withCursor(this.stream),
      format: () => this.line(),
      fps: REDRAWS_PER_SECOND,
      clearOnComplete: true,
      hideCursor: false,
      // `line` cuts itself; false would make the terminal cut long samples as well.
      linewrap: true,
      gracefulExit: false,
      forceRedraw: true,
      emptyOnZero: true,
    });
    this.bar = this.bars.create(info.steps, info.firstStep);
    this.bars.update();
  }

  event(event: MetricsEvent): void {
    if (event.event === 'step') {
      this.latest = event;
      this.bar?.update(event.step);
    } else {
      this.print(describe(event, this.info) ?? '');
    }
  }

  note(line: string): void {
    this.print(printableLine(line));
  }

  private print(text: string): void {
    if (!this.bars) {
      this.stream.write(`${text}\n`);
      return;
    }
    // The bar writes past the guard of the stream.
    this.bars.log(`${printable(text)}\n`);
    this.bars.update();
  }

  stop(): void {
    this.bars?.stop();
    this.bars = undefined;
    this.bar = undefined;
  }

  private line(): string {
    const { info, latest } = this;
    const columns = (this.stream.columns || 80) - 1;
    const step = latest?.step ?? info.firstStep;
    const fields = latest
      ? progressFields(latest, info, this.pace.secondsLeft(step))
      : [`step ${step}/${info.steps}`, 'the first step compiles the kernels'];
    const text = fields.join('   ');
    const room = Math.min(30, columns - text.length - 3);
    const filled = Math.round((room * step) / info.steps);
    const bar = room >= 10 ? `${'━'.repeat(filled)}${'─'.repeat(room - filled)}   ` : '';
    return (bar + text).slice(0, columns);
  }
}

function progressFields(event: StepEvent, info: RunInfo, secondsLeft: number): string[] {
  const { steps, stepsPerEpoch } = info;
  return [
    `epoch ${epochOf(event.step, stepsPerEpoch)}/${epochOf(steps, stepsPerEpoch)}`,
    `step ${event.step}/${steps}`,
    `loss ${formatLoss(event.loss)}`,
    `${formatCount(event.tokensPerSecond)} tokens/s`,
    ...(Number.isFinite(secondsLeft) ? [`${formatDuration(secondsLeft)} left`] : []),
  ];
}
