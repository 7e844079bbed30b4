import type { Gpu } from './device.js';
import type { View } from './view.js';

/** Reads that may overlap, unlike those of `Gpu.read`. They share a few staging buffers, first come, first served. */
export class Readback {
  readonly #waiting: ((staging: GPUBuffer) => void)[] = [];

  private constructor(
    readonly gpu: Gpu,
    private readonly free: GPUBuffer[],
  ) {}

  /** `count` staging buffers for reads of at most `bytes`. */
  static async create(gpu: Gpu, label: string, bytes: number, count: number): Promise<Readback> {
    const free: GPUBuffer[] = [];
    for (let i = 0; i < count; i++) free.push(await gpu.staging(`${label}.${i}`, bytes));
    return new Readback(gpu, free);
  }

  /** Frees the staging buffers. No read may be pending. */
  release(): void {
    for (const buffer of this.free.splice(0)) this.gpu.release({ buffer, offset: 0, size: buffer.size });
  }

  /** Waits for a free staging buffer, submits what `encode` encodes, and passes the bytes of its view to `take`. */
  async read<T>(encode: (encoder: GPUCommandEncoder) => View, take: (bytes: ArrayBuffer) => T): Promise<T> {
    const staging = this.free.pop() ?? (await new Promise<GPUBuffer>((free) => this.#waiting.push(free)));
    try {
      this.gpu.check();
      const encoder = this.gpu.device.createCommandEncoder();
      return await this.gpu.copyOut(encoder, encode(encoder), staging, take);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(staging);
      else this.free.push(staging);
    }
  }
}
