import { emptyTotals, type WorkerTotals } from '../../report/worker-totals.js';
import type { Split } from '../messages.js';

/** Rates are means over this time. */
export const RATES_MS = 10_000;

/** The totals at one time. */
export interface RateSample {
  readonly at: number;
  readonly step: number;
  /** Seconds spent in steps. */
  readonly seconds: number;
  readonly workers: ReadonlyMap<number, Readonly<WorkerTotals>>;
  readonly sumMs: number;
  readonly updateMs: number;
}

export interface WorkerRate {
  readonly id: number;
  readonly spent: WorkerTotals;
  /** Tokens/s while at work, by the coordinator's clock. */
  readonly rate: number;
}

/** Rates of the workers in the last seconds, from totals that `note` is given after some of the steps. */
export class Rates {
  #samples: RateSample[] = [];

  note(sample: RateSample): void {
    const before = this.#samples.at(-1);
    if (before?.step === sample.step) return;
    // When a worker leaves, its totals are gone, so earlier samples cannot be used any more.
    if (before !== undefined && [...before.workers.keys()].some((id) => !sample.workers.has(id))) this.#samples = [];
    this.#samples.push(sample);
    while (this.#samples.length > 2 && sample.at - this.#samples[0].at > RATES_MS) this.#samples.shift();
  }

  /** The rate of each worker that has computed anything. */
  workers(): readonly WorkerRate[] {
    const [first, last] = [this.#samples.at(0), this.#samples.at(-1)];
    if (!first || !last || first === last) return [];
    return [...last.workers].flatMap(([id, totals]) => {
      const before = first.workers.get(id) ?? emptyTotals();
      const spent = emptyTotals();
      for (const key of Object.keys(spent) as (keyof WorkerTotals)[]) spent[key] = totals[key] - before[key];
      return spent.tokens > 0 ? [{ id, spent, rate: (1000 * spent.tokens) / spent.workMs }] : [];
    });
  }

  /** The run's speed over the sum of its workers' speeds, by the compute times that they report. */
  efficiency(tokensPerStep: number): number | undefined {
    const [first, last] = [this.#samples.at(0), this.#samples.at(-1)];
    const own = this.workers().reduce((sum, { spent }) => sum + (1000 * spent.tokens) / spent.computeMs, 0);
    if (!first || !last || own === 0) return undefined;
    return ((last.step - first.step) * tokensPerStep) / (last.seconds - first.seconds) / own;
  }

  split(): Split | null {
    const [first, last] = [this.#samples.at(0), this.#samples.at(-1)];
    const rates = this.workers();
    if (!first || !last || rates.length === 0) return null;
    const steps = last.step - first.step;
    const each = steps * rates.length;
    const mean = (key: keyof WorkerTotals) => round(rates.reduce((sum, { spent }) => sum + spent[key], 0) / each);
    const step = round((1000 * (last.seconds - first.seconds)) / steps);
    const [compute, upload, download] = [mean('computeMs'), mean('uploadMs'), mean('downloadMs')];
    return {
      step,
      compute,
      upload,
      // The waiting that a worker reports includes evaluations, checkpoints and pauses, which are not part of a step.
      wait: round(step - compute - upload - download),
      download,
      sum: round((last.sumMs - first.sumMs) / steps),
      update: round((last.updateMs - first.updateMs) / steps),
    };
  }
}

const round = (ms: number) => Math.round(100 * Math.max(0, ms)) / 100;
