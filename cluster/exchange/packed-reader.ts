import type { Gpu } from '../../src/gpu/device.js';
import type { DispatchList } from '../../src/gpu/list.js';
import { Readback } from '../../src/gpu/readback.js';
import { slice, type View } from '../../src/gpu/view.js';

/** Buckets read back at once: one is packed while the previous one is copied and mapped. */
const IN_FLIGHT = 2;

/** A list that packs one bucket, and the number of words of its last result. */
export interface Packing {
  readonly list: DispatchList;
  readonly most: number;
  words: number;
}

/**
 * Reads back packed buckets. All buckets share one buffer for the packed words: the copy to a staging buffer is queued with
 * the packing. The number of words is known only afterwards, so a little more than the last number is copied. If that is too
 * short, the bucket is packed again.
 */
export class PackedReader {
  private constructor(
    readonly packed: View,
    private readonly readback: Readback,
  ) {}

  /** `most`: words of the largest packed bucket. */
  static async create(gpu: Gpu, label: string, most: number): Promise<PackedReader> {
    const packed = await gpu.buffer(`packed ${label}`, most);
    return new PackedReader(packed, await Readback.create(gpu, `staged ${label}`, 4 * most, IN_FLIGHT));
  }

  /** The packed bytes after `headroom` bytes, which are left free for a frame's header. */
  async pack(packing: Packing, headroom = 0): Promise<Uint8Array> {
    const attempt = (words: number) =>
      this.readback.read(
        (encoder) => {
          packing.list.encode(encoder);
          return slice(this.packed, 0, words);
        },
        (bytes) => {
          const [total] = new Uint32Array(bytes, 0, 1);
          packing.words = total;
          return total <= words ? copyBytes(bytes, 4 * total, headroom) : undefined;
        },
      );
    const guess = Math.min(packing.most, Math.ceil(packing.words * 1.0625) + 256);
    const result = (await attempt(guess)) ?? (await attempt(packing.most));
    if (result === undefined) throw new Error('packed words beyond the most there can be');
    return result;
  }
}

function copyBytes(from: ArrayBuffer, count: number, headroom: number): Uint8Array {
  const result = new Uint8Array(headroom + count);
  result.set(new Uint8Array(from, 0, count), headroom);
  return result;
}
