import type { Gpu } from '../gpu/device.js';
import type { View } from '../gpu/view.js';

/** 32-bit values of a view: runs of consecutive ones in any order, or single ones in rising order. */
export type Runs = readonly (readonly [start: number, count: number])[] | Uint32Array;

export interface Wanted {
  readonly view: View;
  readonly runs: Runs;
}

/** More runs than these are cut out of long reads: a copy command costs more than some kilobytes. */
const MOST_RUNS = 512;

/** Values of a long read: 16 MiB. */
const PIECE = 2 ** 22;

/** Reads scattered values of buffers, as everything submitted so far leaves them. */
export class Gather {
  #buffer: View | undefined;

  constructor(private readonly gpu: Gpu) {}

  /** The words of each view's runs, one after another. */
  async read(wanted: readonly Wanted[]): Promise<Uint32Array<ArrayBuffer>[]> {
    const results = wanted.map(({ runs }) => new Uint32Array(valuesOf(runs)));
    const isShort = (i: number) => wanted[i].runs.length <= MOST_RUNS;
    const indices = [...wanted.keys()];
    const all = await this.#copied(indices.filter(isShort).map((i) => wanted[i]));
    let at = 0;
    for (const i of indices.filter(isShort)) {
      results[i].set(all.subarray(at, at + results[i].length));
      at += results[i].length;
    }
    for (const i of indices) if (!isShort(i)) await this.#streamed(wanted[i], results[i]);
    return results;
  }

  async #copied(wanted: readonly Wanted[]): Promise<Uint32Array> {
    const total = wanted.reduce((sum, { runs }) => sum + valuesOf(runs), 0);
    if (total === 0) return new Uint32Array();
    if (this.#buffer === undefined || this.#buffer.size < 4 * total) {
      this.release();
      this.#buffer = await this.gpu.buffer('gathered', total);
    }
    const target = this.#buffer;
    const encoder = this.gpu.device.createCommandEncoder();
    let at = 0;
    for (const { view, runs } of wanted)
      for (let i = 0; i < runs.length; i++) {
        const [start, count] = runAt(runs, i);
        encoder.copyBufferToBuffer(view.buffer, view.offset + 4 * start, target.buffer, 4 * at, 4 * count);
        at += count;
      }
    this.gpu.device.queue.submit([encoder.finish()]);
    return new Uint32Array(await this.gpu.read({ ...target, size: 4 * total }));
  }

  /** Reads everything from the first to the last run, piece by piece. */
  async #streamed({ view, runs }: Wanted, target: Uint32Array): Promise<void> {
    let words = new Uint32Array();
    let begin = 0;
    let at = 0;
    const last = endOf(runs);
    for (let i = 0; i < runs.length; i++) {
      const [start, count] = runAt(runs, i);
      if (start < begin || start + count > begin + words.length) {
        begin = start;
        const values = Math.max(count, Math.min(PIECE, last - start));
        words = new Uint32Array(await this.gpu.read({ ...view, offset: view.offset + 4 * begin, size: 4 * values }));
      }
      for (let k = 0; k < count; k++) target[at++] = words[start - begin + k];
    }
  }

  release(): void {
    if (this.#buffer !== undefined) this.gpu.release(this.#buffer);
    this.#buffer = undefined;
  }
}

function runAt(runs: Runs, i: number): readonly [number, number] {
  const run = runs[i];
  return typeof run === 'number' ? [run, 1] : run;
}

function valuesOf(runs: Runs): number {
  if (runs instanceof Uint32Array) return runs.length;
  return runs.reduce((sum, [, count]) => sum + count, 0);
}

function endOf(runs: Runs): number {
  if (runs instanceof Uint32Array) return runs[runs.length - 1] + 1;
  return runs.reduce((end, [start, count]) => Math.max(end, start + count), 0);
}
