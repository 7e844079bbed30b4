import type { EvalEvent, MetricsEvent } from './events.js';

/** A growing column of numbers. */
class Column {
  #values = new Float64Array(256);
  length = 0;

  push(value: number): void {
    if (this.length === this.#values.length) {
      const values = new Float64Array(2 * this.length);
      values.set(this.#values);
      this.#values = values;
    }
    this.#values[this.length++] = value;
  }

  at(index: number): number {
    return this.#values[index];
  }
}

/** The losses of a run's course (see `courseOf`), 16 bytes a step: what a plot needs of the events. */
export class LossCurves {
  readonly #steps = new Column();
  readonly #losses = new Column();
  #evaluations: EvalEvent[] = [];

  static of(events: Iterable<MetricsEvent>): LossCurves {
    const curves = new LossCurves();
    for (const event of events) curves.add(event);
    return curves;
  }

  add(event: MetricsEvent): void {
    if (event.event === 'step') {
      this.#goBackBefore(event.step);
      this.#steps.push(event.step);
      this.#losses.push(event.loss);
    } else if (event.event === 'eval') {
      if (this.#evaluations.some(({ step }) => step === event.step))
        this.#evaluations = this.#evaluations.filter(({ step }) => step !== event.step);
      this.#evaluations.push(event);
    }
  }

  /** Maps each step and its loss (before the update) by `point`. */
  steps<T>(point: (step: number, loss: number) => T): T[] {
    return Array.from({ length: this.#steps.length }, (_, i) => point(this.#steps.at(i), this.#losses.at(i)));
  }

  get evaluations(): readonly EvalEvent[] {
    return this.#evaluations;
  }

  #goBackBefore(step: number): void {
    let { length } = this.#steps;
    if (length === 0 || this.#steps.at(length - 1) < step) return;
    while (length > 0 && this.#steps.at(length - 1) >= step) length--;
    this.#steps.length = length;
    this.#losses.length = length;
    this.#evaluations = this.#evaluations.filter((evaluation) => evaluation.step < step);
  }
}
