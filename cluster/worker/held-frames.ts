import { LantrainError } from '../../src/errors.js';
import { gridWords } from '../../src/model/grid.js';
import type { Wire } from '../../src/model/wire.js';
import { mostWords } from '../exchange/blocks.js';
import { mostLowWords } from '../exchange/low-blocks.js';
import type { Frame, WeightsHeader } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';

export type WeightsFrame = Frame<WeightsHeader>;

interface DueFrame {
  readonly frame: WeightsFrame;
  readonly taken: () => void;
}

/** Added to the weights of two versions. More than what a connection holds before it stops reading. */
const MOST_DUE_BYTES = 2 ** 28 + 2 ** 26;

/**
 * Received weights that are not applied yet, in bounded memory. Frames of a committed version are due. Of the next
 * version, each bucket has at most one frame of each kind: a coordinator announces a commit before it sends weights of
 * the version after it.
 */
export class HeldFrames {
  #due: DueFrame[] = [];
  #dueBytes = 0;
  readonly #ahead = new Map<string, WeightsFrame>();
  #announced = -1;
  readonly #mostDueBytes: number;

  /** `values`: the number of values of each bucket. */
  constructor(
    private readonly values: readonly number[],
    private readonly wire: Wire = 'exact',
  ) {
    this.#mostDueBytes = MOST_DUE_BYTES + 2 * 4 * values.reduce((sum, size) => sum + size, 0);
  }

  /** The newest committed version; -1 before the first. */
  get announced(): number {
    return this.#announced;
  }

  announce(version: number): void {
    if (version <= this.#announced) return;
    this.#announced = version;
    for (const [key, frame] of this.#ahead)
      if (frame.header.step <= version) {
        this.#ahead.delete(key);
        this.#push(frame, () => {});
      }
  }

  /**
   * Stores a frame. If it is due, the returned promise settles when it has been applied; the connection stops reading
   * while too many are unsettled. Throws LT_CLUSTER_MALFORMED for a frame that no coordinator sends. Throws
   * LT_CLUSTER_SLOW if too much is due, on a connection that cannot stop reading.
   */
  add(frame: Frame): Promise<void> | undefined {
    const { header, payload } = frame;
    if (!isWeights(frame) || header.kind === 'contribution') throw malformed('a contribution came down');
    const { bucket, step: version, kind } = header;
    if (bucket >= this.values.length) throw malformed(`weights of bucket ${bucket} of ${this.values.length}`);
    const values = this.values[bucket];
    const most = 4 * mostWeightsWords(values, kind === 'weights-whole', this.wire);
    if (payload.length > most) throw malformed(`${payload.length} bytes for a bucket of ${values} weights`);
    if (version > this.#announced + 1) throw malformed(`weights of step ${version} after step ${this.#announced}`);
    if (version <= this.#announced) {
      let settle = () => {};
      const taken = new Promise<void>((resolve) => {
        settle = resolve;
      });
      this.#push(frame, settle);
      return taken;
    }
    const key = `${kind} ${bucket}`;
    // Deleted first, so that the newest frame is last in the map's order.
    this.#ahead.delete(key);
    this.#ahead.set(key, frame);
    return undefined;
  }

  #push(frame: WeightsFrame, taken: () => void): void {
    this.#dueBytes += frame.bytes;
    this.#due.push({ frame, taken });
    if (this.#dueBytes > this.#mostDueBytes)
      throw new LantrainError('LT_CLUSTER_SLOW', 'this worker does not keep up with the weights that it is sent');
  }

  /** The due frames in the order of their arrival. Each is released once the caller has applied it. */
  *takeDue(): Generator<WeightsFrame> {
    for (let next = this.#due.shift(); next !== undefined; next = this.#due.shift()) {
      this.#dueBytes -= next.frame.bytes;
      try {
        yield next.frame;
      } finally {
        next.taken();
      }
    }
  }

  clear(): void {
    this.#ahead.clear();
    for (const { taken } of this.#due) taken();
    this.#due = [];
    this.#dueBytes = 0;
  }
}

/** The most words of a frame of weights of a bucket. */
function mostWeightsWords(values: number, isWhole: boolean, wire: Wire): number {
  if (wire === 'low') return isWhole ? values + gridWords(values) : mostLowWords(values, 'updates');
  return isWhole ? values : mostWords(values, 'differences');
}

function isWeights(frame: Frame): frame is WeightsFrame {
  return frame.header.kind !== 'contribution';
}
