import { type Columns, emptyColumns } from '../messages.js';

/** The values that are kept of each step. */
export interface StepRecord {
  readonly step: number;
  readonly seconds: number;
  readonly loss: number;
  readonly tokensPerSecond: number;
  readonly lr: number;
  readonly gradNorm: number;
}

const FIELDS = ['step', 'seconds', 'loss', 'tokensPerSecond', 'lr', 'gradNorm'] as const;

/** All steps of a run, 48 bytes each, and summaries with few points. */
export class StepHistory {
  #length = 0;
  #columns = Object.fromEntries(FIELDS.map((field) => [field, new Float64Array(1024)])) as Record<
    (typeof FIELDS)[number],
    Float64Array
  >;

  get length(): number {
    return this.#length;
  }

  get last(): StepRecord | undefined {
    return this.#length > 0 ? this.at(this.#length - 1) : undefined;
  }

  at(index: number): StepRecord {
    const columns = this.#columns;
    return Object.fromEntries(FIELDS.map((field) => [field, columns[field][index]])) as unknown as StepRecord;
  }

  /** Appends a step; steps must come in order. */
  append(record: StepRecord): void {
    const n = this.#length++;
    for (const field of FIELDS) {
      let column = this.#columns[field];
      if (n === column.length) {
        column = new Float64Array(2 * n);
        column.set(this.#columns[field]);
        this.#columns[field] = column;
      }
      column[n] = record[field];
    }
  }

  /** The index of the first entry whose step is at least `step`. */
  indexOf(step: number): number {
    let [low, high] = [0, this.#length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#columns.step[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Entries [begin, end) in at most `points` buckets of equal numbers of steps: means, and the extremes of values that
   * can spike. The mean of a speed is the bucket's tokens over its time.
   */
  columns(begin = 0, end = this.#length, points = Number.POSITIVE_INFINITY): Columns {
    const count = Math.max(0, end - begin);
    const size = Math.max(1, Math.ceil(count / points));
    const view = emptyColumns();
    const { step, seconds, loss, tokensPerSecond, lr, gradNorm } = this.#columns;
    for (let from = begin; from < end; from += size) {
      const to = Math.min(from + size, end);
      const losses = spread(loss, from, to);
      const norms = spread(gradNorm, from, to);
      const speeds = spread(tokensPerSecond, from, to);
      let slowness = 0;
      for (let i = from; i < to; i++) slowness += 1 / tokensPerSecond[i];
      view.step.push(step[to - 1]);
      view.seconds.push(brief(seconds[to - 1]));
      view.loss.push(brief(losses.mean));
      view.lossMin.push(brief(losses.min));
      view.lossMax.push(brief(losses.max));
      view.tokensPerSecond.push(brief((to - from) / slowness));
      view.tokensPerSecondMin.push(brief(speeds.min));
      view.tokensPerSecondMax.push(brief(speeds.max));
      view.lr.push(brief(lr[to - 1]));
      view.gradNorm.push(brief(norms.mean));
      view.gradNormMin.push(brief(norms.min));
      view.gradNormMax.push(brief(norms.max));
    }
    return view;
  }
}

/** Mean, minimum and maximum of the finite values; NaN where there are none. */
function spread(values: Float64Array, from: number, to: number) {
  let [count, sum, min, max] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = from; i < to; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    count++;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return { mean: sum / count, min, max };
}

/** Six digits: more than a screen shows. */
export function brief(value: number): number | null {
  return Number.isFinite(value) ? Number(value.toPrecision(6)) : null;
}
