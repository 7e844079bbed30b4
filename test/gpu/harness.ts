import { Gpu, type GpuOptions } from '../../src/gpu/device.js';
import { KernelCache } from '../../src/gpu/kernel.js';
import { type Dispatch, DispatchList } from '../../src/gpu/list.js';
import type { View } from '../../src/gpu/view.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { deriveKey, uniformAt } from '../../src/util/random.js';

/** A device and the helpers that a kernel test needs: upload, run, download. */
export class GpuHarness {
  private constructor(
    readonly gpu: Gpu,
    readonly kernels: KernelCache,
  ) {}

  static async open(options: GpuOptions = {}): Promise<GpuHarness> {
    const gpu = await Gpu.open(openDawn(), options);
    return new GpuHarness(gpu, new KernelCache(gpu, loadShaders()));
  }

  /** A storage buffer with `data`. */
  async put(data: Float32Array | Uint32Array | number[], label = 'test'): Promise<View> {
    const array = Array.isArray(data) ? Float32Array.from(data) : data;
    const view = await this.gpu.buffer(label, array.length);
    this.gpu.write(view, array);
    return { ...view, size: Math.max(4, array.length * 4) };
  }

  async zeros(values: number): Promise<View> {
    return { ...(await this.gpu.buffer('test', values)), size: values * 4 };
  }

  /** A uniform buffer; numbers of `words` are u32 unless given as { f32 }. */
  async uniform(words: readonly (number | { readonly f32: number })[]): Promise<View> {
    const bytes = new ArrayBuffer(Math.ceil(words.length / 4) * 16);
    const data = new DataView(bytes);
    words.forEach((w, i) => {
      if (typeof w === 'number') data.setUint32(4 * i, w, true);
      else data.setFloat32(4 * i, w.f32, true);
    });
    const view = await this.gpu.uniform('test', bytes.byteLength);
    this.gpu.write(view, new Uint32Array(bytes));
    return view;
  }

  async run(...dispatches: Dispatch[]): Promise<void> {
    const list = new DispatchList();
    for (const d of dispatches) list.add(d);
    await list.prepare(this.kernels);
    list.submit(this.gpu);
    await this.gpu.done();
  }

  async floats(view: View): Promise<Float32Array> {
    return new Float32Array(await this.gpu.read(view));
  }

  async words(view: View): Promise<Uint32Array> {
    return new Uint32Array(await this.gpu.read(view));
  }
}

/** `n` reproducible values, uniform in [-scale, scale). */
export function noise(n: number, seed: number, scale = 1): Float32Array {
  const key = deriveKey(seed, 99);
  return Float32Array.from({ length: n }, (_, i) => (2 * uniformAt(key, i) - 1) * scale);
}
