import type { MetricsEvent } from '../report/metrics.js';
import { createReporter, type Reporter } from '../report/progress.js';
import type { RunEvent } from '../run/events.js';
import { RunClock } from '../train/run-clock.js';
import { endLines } from './ending.js';
import { listeningLines } from './joining.js';
import { loadingBars } from './loading.js';
import { throughputLine } from './throughput.js';
import { watchLines } from './watch.js';

const STANDSTILLS = { waiting: 'waiting for workers', paused: 'paused' };
const PHASES = { evaluating: 'evaluating', sampling: 'writing a sample', saving: 'saving the last checkpoint' };

/** Prints what a run tells: lines and a bar, or each metrics event as one line of JSON. */
export class RunPrinter {
  readonly #reporter: Reporter;
  /** The run's own time, for forecasts. */
  readonly #clock = new RunClock();
  readonly #showProgress = loadingBars();

  /** `verb`: the command that goes on with the run. */
  constructor(
    private readonly verb: string,
    json: boolean,
  ) {
    this.#reporter = createReporter({ json, now: this.#clock.now });
  }

  print(event: RunEvent): void {
    switch (event.event) {
      case 'note':
        this.note(event.text);
        break;
      case 'progress':
        this.#showProgress(event);
        break;
      case 'begin': {
        const { path, from, totalSteps, stepsPerEpoch } = event;
        const title = `run      ${path}${from > 0 ? `, from step ${from}` : ''}`;
        this.#reporter.start({ title, steps: totalSteps, firstStep: from, stepsPerEpoch });
        break;
      }
      case 'listening':
        this.#lines(listeningLines(event));
        break;
      case 'watch': {
        const { isPrivate = false } = this.#reporter;
        this.#lines(watchLines(event, { isPrivate, isTerminal: process.stdout.isTTY }));
        break;
      }
      case 'standstill':
        if (event.begins) this.#clock.stand(event.why);
        else this.#clock.goOn(event.why);
        this.#reporter.phase(event.begins ? STANDSTILLS[event.why] : undefined);
        break;
      case 'phase':
        this.#reporter.phase(event.phase === 'training' ? undefined : PHASES[event.phase]);
        break;
      case 'stopping': {
        const when = event.now ? 'now, as nobody computes' : 'after this step';
        this.note(`stopping ${when}, with a checkpoint (Ctrl-C again: at once)`);
        break;
      }
      case 'throughput':
        this.note(throughputLine(event));
        break;
      case 'end':
        this.stop();
        this.#lines(endLines(event, this.verb));
        break;
      case 'profile':
        this.#lines(event.table.split('\n'));
        break;
      default:
        this.#metrics(event);
    }
  }

  note(line: string): void {
    this.#reporter.note(line);
  }

  /** Ends the bar. */
  stop(): void {
    this.#reporter.stop();
  }

  #metrics(event: MetricsEvent): void {
    switch (event.event) {
      // For the run's own files and its page: the end says what the terminal gets of them.
      case 'workers':
      case 'contributed':
      case 'output':
      case 'stopped':
      case 'failed':
        break;
      default:
        this.#reporter.event(event);
    }
  }

  #lines(lines: readonly string[]): void {
    for (const line of lines) this.note(line);
  }
}
