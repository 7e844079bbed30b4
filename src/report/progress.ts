import { MultiBar, type SingleBar } from 'cli-progress';
import { printable, printableJson, printableLine } from '../util/printable.js';
import { withCursor } from '../util/terminal.js';
import {
  describe,
  epochOf,
  formatCount,
  formatDuration,
  formatLoss,
  labelled,
  type RunInfo,
  stepOf,
} from './format.js';
import type { MetricsEvent, StepEvent } from './metrics.js';

export type { RunInfo } from './format.js';

/** Where a run shows itself. `start` comes first, `stop` last and on every way out; both may be left out. */
export interface Reporter {
  start(info: RunInfo): void;
  event(event: MetricsEvent): void;
  /** What the run does from here on, such as `evaluating`; undefined while it takes steps. */
  phase(doing: string | undefined): void;
  /** Whether notes go to a terminal, where only its user reads them. */
  readonly isPrivate?: boolean;
  /** A line that is no metrics event, such as a warning. It is shown as one line, whatever it contains. */
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
  phase(): void {}
  note(line: string): void {
    this.errors.write(`${printableLine(line)}\n`);
  }
  stop(): void {}
}

/** A forecast needs so many steps after the first one, or one and so many milliseconds. */
const FORECAST_STEPS = 5;
const FORECAST_MS = 5000;

/**
 * The time left, estimated from all steps of this process but the first, because that compiles the kernels. Evaluations
 * and checkpoints count with the steps that they follow.
 */
class Pace {
  private first: { readonly step: number; readonly ms: number } | undefined;

  constructor(
    private readonly info: RunInfo,
    private readonly now: () => number,
  ) {}

  /** After each step, in order. NaN where nothing can be said yet. */
  secondsLeft(step: number): number {
    const ms = this.now();
    this.first ??= { step, ms };
    const [steps, took] = [step - this.first.step, ms - this.first.ms];
    const isKnown = steps >= FORECAST_STEPS || (steps > 0 && took >= FORECAST_MS);
    return isKnown ? (took / 1000 / steps) * (this.info.steps - step) : Number.NaN;
  }
}

/** What takes long before the first step is done. */
const FIRST_STEP = 'the first step compiles the kernels';

const UNTITLED: RunInfo = { title: '', steps: 1, firstStep: 0, stepsPerEpoch: 1 };
const PLAIN_INTERVAL_MS = 10_000;
/** After this time without a line, one says what the run does. The time doubles with each such line. */
const SILENT_MS = 5000;

/** One progress line every ten seconds at most; everything else at once; a sign of life where there is nothing else. */
class PlainReporter implements Reporter {
  readonly isPrivate = false;
  private info = UNTITLED;
  private pace: Pace;
  private lastMs = Number.NEGATIVE_INFINITY;
  private doing: string | undefined;
  private silence: NodeJS.Timeout | undefined;

  constructor(
    private readonly stream: NodeJS.WritableStream,
    private readonly now: () => number,
  ) {
    this.pace = new Pace(this.info, now);
  }

  start(info: RunInfo): void {
    this.info = info;
    this.pace = new Pace(info, this.now);
    this.doing = FIRST_STEP;
    this.note(info.title);
  }

  phase(doing: string | undefined): void {
    this.doing = doing;
    this.#listen();
  }

  event(event: MetricsEvent): void {
    if (event.event === 'step') {
      this.phase(undefined);
      const secondsLeft = this.pace.secondsLeft(event.step);
      if (this.now() - this.lastMs < PLAIN_INTERVAL_MS) return;
      this.lastMs = this.now();
      this.print(stepLine(event, this.info, secondsLeft));
    } else {
      this.print(describe(event, this.info) ?? '');
    }
  }

  note(line: string): void {
    this.print(printableLine(line));
  }

  private print(text: string): void {
    this.stream.write(`${text}\n`);
    this.#listen();
  }

  stop(): void {
    clearTimeout(this.silence);
    this.doing = undefined;
  }

  /** Says what goes on if nothing else is said for some time. */
  #listen(ms = SILENT_MS, silentMs = ms): void {
    clearTimeout(this.silence);
    const { doing } = this;
    if (doing === undefined) return;
    this.silence = setTimeout(() => {
      this.stream.write(`${labelled('', `${doing}, ${formatDuration(silentMs / 1000)}`)}\n`);
      this.#listen(2 * ms, silentMs + 2 * ms);
    }, ms).unref();
  }
}

const REDRAWS_PER_SECOND = 8;

/**
 * Draws the bar by cli-progress's MultiBar, because no other class of the library prints above a bar. Its `log` holds
 * lines back until the next redraw. The redraw puts them where the bar was and draws the bar anew below.
 */
class TerminalReporter implements Reporter {
  readonly isPrivate = true;
  private info = UNTITLED;
  private pace: Pace;
  private bars: MultiBar | undefined;
  private bar: SingleBar | undefined;
  private latest: { readonly event: StepEvent; readonly secondsLeft: number } | undefined;
  private doing: string | undefined;

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
    this.doing = FIRST_STEP;
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
      this.latest = { event, secondsLeft: this.pace.secondsLeft(event.step) };
      this.doing = undefined;
      this.bar?.update(event.step);
    } else {
      this.print(describe(event, this.info) ?? '');
    }
  }

  phase(doing: string | undefined): void {
    this.doing = doing;
    this.bars?.update();
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
    const { info, latest, doing } = this;
    const columns = (this.stream.columns || 80) - 1;
    const step = latest?.event.step ?? info.firstStep;
    const loss = latest ? [`loss ${formatLoss(latest.event.loss)}`] : [];
    const rest = doing === undefined && latest ? paceFields(latest.event, latest.secondsLeft) : [];
    const text = [`step ${step}/${info.steps}`, ...loss, ...(doing === undefined ? rest : [doing])].join('   ');
    const room = Math.min(30, columns - text.length - 3);
    const filled = Math.round((room * step) / info.steps);
    const bar = room >= 10 ? `${'━'.repeat(filled)}${'─'.repeat(room - filled)}   ` : '';
    return (bar + text).slice(0, columns);
  }
}

function stepLine(event: StepEvent, info: RunInfo, secondsLeft: number): string {
  const epochs = epochOf(info.steps, info.stepsPerEpoch);
  return labelled(
    'step',
    [
      stepOf(event.step, info),
      ...(epochs > 1 ? [`epoch ${epochOf(event.step, info.stepsPerEpoch)}/${epochs}`] : []),
      `loss ${formatLoss(event.loss).padStart(6)}`,
      ...paceFields(event, secondsLeft),
    ].join('   '),
  );
}

function paceFields({ tokensPerSecond }: StepEvent, secondsLeft: number): string[] {
  const left = Number.isFinite(secondsLeft) ? [`${formatDuration(secondsLeft)} left`] : [];
  return [`${formatCount(tokensPerSecond).padStart(5)} tokens/s`, ...left];
}
