import type { Gpu } from '../../src/gpu/device.js';
import { Readback } from '../../src/gpu/readback.js';
import type { View } from '../../src/gpu/view.js';

/** Buckets read back at once: one is copied to a staging buffer while the previous one is mapped. */
const IN_FLIGHT = 2;

/** Reads whole buckets of 32-bit values. */
export class BucketReader {
  private constructor(private readonly readback: Readback) {}

  /** For views of at most `values` values. */
  static async create(gpu: Gpu, values: number): Promise<BucketReader> {
    return new BucketReader(await Readback.create(gpu, 'staged bucket', 4 * values, IN_FLIGHT));
  }

  /** The bytes of a view, with `before` free bytes in front and `after` behind. Several calls may run at once. */
  read(view: View, before: number, after = 0): Promise<Uint8Array> {
    return this.readback.read(
      () => view,
      (bytes) => {
        const result = new Uint8Array(before + view.size + after);
        result.set(new Uint8Array(bytes, 0, view.size), before);
        return result;
      },
    );
  }
}
