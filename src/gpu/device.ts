import { LantrainError } from '../errors.js';
import { oneLine } from '../util/one-line.js';
import { bufferBytes, type View } from './view.js';

/** Bytes of one copy to the host; larger reads go through two staging buffers of this size in turn. */
export const READ_CHUNK_BYTES = 2 ** 24;

/** Bytes of staging buffers for reads of at most `bytes`. */
export function stagingBytes(bytes: number): number {
  return Math.min(bytes, 2 * READ_CHUNK_BYTES);
}

export interface GpuOptions {
  /** Features to leave unused though the adapter has them: for tests, and to imitate a smaller adapter. */
  readonly withoutFeatures?: readonly string[];
  /** Use WebGPU's default limits, not the adapter's. */
  readonly defaultLimits?: boolean;
}

const USEFUL_FEATURES = ['subgroups', 'shader-f16', 'timestamp-query'] as const;

const RAISED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
] as const;

/** Usage bits by value: Node has no `GPUBufferUsage`. */
const USAGE = { mapRead: 0x1, copySrc: 0x4, copyDst: 0x8, uniform: 0x40, storage: 0x80, queryResolve: 0x200 } as const;

/** What lantrain uses of an adapter's description. */
export interface AdapterDescription {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  readonly driver: string;
  /** A driver that runs on the CPU: lavapipe, SwiftShader, WARP. */
  readonly software: boolean;
  /** The subgroup size where it is fixed (min = max), else undefined. */
  readonly subgroupSize: number | undefined;
}

/** The adapter in a few words: its driver's description of itself, or the adapter's name where there is none. */
export function adapterTitle({ driver, name }: AdapterDescription): string {
  return driver || name;
}

/**
 * A device with every useful feature and limit of its adapter. Errors that WebGPU reports as events (uncaptured errors, a
 * lost device) are kept. The next `check` throws them, and every read and wait checks.
 */
export class Gpu {
  #failure: LantrainError | undefined;
  #staging: GPUBuffer[] = [];
  #reading: Promise<void> | undefined;
  readonly #live = new Set<GPUBuffer>();
  #allocatedBytes = 0;
  #peakBytes = 0;

  private constructor(
    readonly device: GPUDevice,
    readonly adapter: AdapterDescription,
  ) {
    device.onuncapturederror = (event) => {
      this.#failure ??= asLantrainError(event.error);
    };
    void device.lost.then((info) => {
      const cause = new Error(info.message || info.reason);
      this.#failure ??= new LantrainError('LT_GPU_LOST', `the GPU device was lost: ${oneLine(cause)}`, { cause });
    });
  }

  /** Throws LT_GPU_NONE where there is no adapter, LT_GPU_ERROR where it gives no device. */
  static async open(gpu: GPU, options: GpuOptions = {}): Promise<Gpu> {
    let adapter: GPUAdapter | null;
    try {
      adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    } catch (cause) {
      throw new LantrainError('LT_GPU_NONE', `no usable GPU adapter: ${oneLine(cause)}`, { cause });
    }
    if (adapter === null)
      throw new LantrainError('LT_GPU_NONE', 'no usable GPU adapter; install a driver for the GPU, or update it');
    const without = new Set(options.withoutFeatures);
    const features = USEFUL_FEATURES.filter((f) => adapter.features.has(f) && !without.has(f));
    const limits: Record<string, number> = {};
    if (!options.defaultLimits) for (const name of RAISED_LIMITS) limits[name] = adapter.limits[name];
    let device: GPUDevice;
    try {
      device = await adapter.requestDevice({ requiredFeatures: features, requiredLimits: limits });
    } catch (cause) {
      throw new LantrainError('LT_GPU_ERROR', `the GPU adapter gives no device: ${oneLine(cause)}`, { cause });
    }
    return new Gpu(device, describe(adapter.info, features.includes('subgroups')));
  }

  has(feature: (typeof USEFUL_FEATURES)[number]): boolean {
    return this.device.features.has(feature);
  }

  get limits(): GPUSupportedLimits {
    return this.device.limits;
  }

  /** Bytes of all buffers that exist now, and the most that ever existed at once. */
  get memory(): { readonly allocatedBytes: number; readonly peakBytes: number } {
    return { allocatedBytes: this.#allocatedBytes, peakBytes: this.#peakBytes };
  }

  /** A zeroed storage buffer of `values` values, float16 or 32-bit. Throws LT_GPU_MEMORY. */
  async buffer(label: string, values: number, f16 = false): Promise<View> {
    const size = bufferBytes(values, f16);
    const buffer = await this.#create(label, size, USAGE.storage | USAGE.copySrc | USAGE.copyDst);
    return f16 ? { buffer, offset: 0, size, f16 } : { buffer, offset: 0, size };
  }

  /** A uniform buffer of at least `bytes`. */
  async uniform(label: string, bytes: number): Promise<View> {
    const size = Math.ceil(bytes / 256) * 256;
    return { buffer: await this.#create(label, size, USAGE.uniform | USAGE.copySrc | USAGE.copyDst), offset: 0, size };
  }

  /** A buffer of `bytes` to copy into and map. */
  async staging(label: string, bytes: number): Promise<GPUBuffer> {
    return this.#create(label, bytes, USAGE.mapRead | USAGE.copyDst);
  }

  async #create(label: string, size: number, usage: number): Promise<GPUBuffer> {
    if (size > this.limits.maxBufferSize)
      throw new LantrainError(
        'LT_GPU_MEMORY',
        `buffer ${label} of ${size} bytes exceeds the adapter's largest buffer (${this.limits.maxBufferSize} bytes)`,
      );
    this.device.pushErrorScope('out-of-memory');
    const buffer = this.device.createBuffer({ label, size, usage });
    const error = await this.device.popErrorScope();
    if (error)
      throw new LantrainError(
        'LT_GPU_MEMORY',
        `the adapter has no memory for ${label} (${size} bytes, ${this.#allocatedBytes} bytes in use already)`,
      );
    this.#live.add(buffer);
    this.#allocatedBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#allocatedBytes);
    return buffer;
  }

  release(view: View): void {
    this.#destroy(view.buffer);
  }

  /**
   * Runs `build`. If it throws, frees every buffer made meanwhile, except the staging buffers of reads. So nothing else may
   * make buffers meanwhile.
   */
  async orFree<T>(build: () => Promise<T>): Promise<T> {
    const before = new Set(this.#live);
    try {
      return await build();
    } catch (error) {
      for (const buffer of this.#live)
        if (!before.has(buffer) && !this.#staging.includes(buffer)) this.#destroy(buffer);
      throw error;
    }
  }

  /** Frees every buffer. No read may be pending, and nothing that was built on the buffers may be used again. */
  releaseAll(): void {
    this.#staging = [];
    for (const buffer of this.#live) this.#destroy(buffer);
  }

  #destroy(buffer: GPUBuffer): void {
    if (this.#live.delete(buffer)) this.#allocatedBytes -= buffer.size;
    buffer.destroy();
  }

  /** Queues a write of whole 32-bit values at the start of `view`, before everything that is submitted later. */
  write(view: View, data: Float32Array | Uint32Array | Int32Array): void {
    this.device.queue.writeBuffer(view.buffer, view.offset, data.buffer, data.byteOffset, data.byteLength);
  }

  /** The bytes of `view`, once everything submitted so far is done. */
  async read(view: View): Promise<ArrayBuffer> {
    const bytes = new Uint8Array(view.size);
    await this.readInto(view, bytes);
    return bytes.buffer;
  }

  /**
   * Copies the bytes of `view` into `target`, once everything submitted so far is done. A read of several chunks takes
   * several submits, so the view must not change meanwhile. Reads wait for each other.
   */
  async readInto(view: View, target: Uint8Array): Promise<void> {
    while (this.#reading) await this.#reading.catch(() => undefined);
    this.#reading = this.#readInto(view, target);
    try {
      await this.#reading;
    } finally {
      this.#reading = undefined;
    }
  }

  /** The host copies from one staging buffer while the adapter fills the other. */
  async #readInto(view: View, target: Uint8Array): Promise<void> {
    this.check();
    if (target.length !== view.size) throw new RangeError(`${target.length} bytes for a view of ${view.size}`);
    const stagings = await this.#stagingsFor(view.size);
    const chunks: Promise<void>[] = [];
    for (let at = 0; at < view.size; at += READ_CHUNK_BYTES) {
      const i = chunks.length;
      await chunks[i - stagings.length];
      const chunk = { ...view, offset: view.offset + at, size: Math.min(READ_CHUNK_BYTES, view.size - at) };
      const take = (bytes: ArrayBuffer) => target.set(new Uint8Array(bytes), at);
      chunks.push(this.copyOut(this.device.createCommandEncoder(), chunk, stagings[i % stagings.length], take));
      // Marks a failure as handled: the waits above and below throw it.
      chunks[i].catch(() => undefined);
    }
    await Promise.all(chunks);
  }

  async #stagingsFor(bytes: number): Promise<readonly GPUBuffer[]> {
    const size = Math.min(bytes, READ_CHUNK_BYTES);
    if (this.#staging.length === 0 || this.#staging[0].size < size) {
      for (const buffer of this.#staging.splice(0)) this.#destroy(buffer);
      this.#staging.push(await this.staging('staging', size));
    }
    if (bytes > READ_CHUNK_BYTES && this.#staging.length < 2)
      this.#staging.push(await this.staging('staging', READ_CHUNK_BYTES));
    return this.#staging;
  }

  /**
   * Submits `encoder` with a copy of `view` to `staging` as its last command, and passes the bytes to `take`. `take` must
   * not keep them.
   */
  async copyOut<T>(
    encoder: GPUCommandEncoder,
    view: View,
    staging: GPUBuffer,
    take: (bytes: ArrayBuffer) => T,
  ): Promise<T> {
    encoder.copyBufferToBuffer(view.buffer, view.offset, staging, 0, view.size);
    this.device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(0x1, 0, view.size);
    } catch (cause) {
      this.check();
      throw new LantrainError('LT_GPU_ERROR', `reading back from the GPU failed: ${oneLine(cause)}`, { cause });
    }
    try {
      return take(staging.getMappedRange(0, view.size));
    } finally {
      staging.unmap();
      this.check();
    }
  }

  /** Resolves when everything submitted so far is done. */
  async done(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    this.check();
  }

  /** Throws the first error that WebGPU reported as an event, if any. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }
}

/** Whether an adapter's driver runs on the CPU. */
export function isSoftware({ vendor, architecture, device, description }: GPUAdapterInfo): boolean {
  const text = `${vendor} ${architecture} ${device} ${description}`.toLowerCase();
  return /llvmpipe|lavapipe|swiftshader|basic render|warp|mesa.*cpu/.test(text);
}

function describe(info: GPUAdapterInfo, subgroups: boolean): AdapterDescription {
  const extended = info as GPUAdapterInfo & { subgroupMinSize?: number; subgroupMaxSize?: number };
  const { device, description, vendor, architecture } = info;
  const name = device || description || [vendor, architecture].filter(Boolean).join(' ') || 'unknown adapter';
  const { subgroupMinSize: min, subgroupMaxSize: max } = extended;
  return {
    name,
    vendor,
    architecture,
    driver: description,
    software: isSoftware(info),
    subgroupSize: subgroups && min !== undefined && min === max ? min : undefined,
  };
}

function asLantrainError(error: GPUError): LantrainError {
  const kind = error.constructor.name;
  const cause = new Error(error.message);
  if (kind === 'GPUOutOfMemoryError')
    return new LantrainError('LT_GPU_MEMORY', `out of GPU memory: ${oneLine(cause)}`, { cause });
  return new LantrainError('LT_GPU_ERROR', `WebGPU refused an operation: ${oneLine(cause)}`, { cause });
}
