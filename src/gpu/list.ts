import type { Gpu } from './device.js';
import type { Kernel, KernelCache, KernelId } from './kernel.js';
import type { View } from './view.js';

/** The work of a dispatch, for profiles: floating-point operations, and the bytes that it must move at least. */
export interface Work {
  readonly flops?: number;
  readonly bytes?: number;
}

export interface Dispatch extends KernelId, Work {
  /** Views by the names of the WGSL variables. */
  readonly bindings: Readonly<Record<string, View>>;
  /** Constant uniforms: u32 numbers by the names of the WGSL variables. */
  readonly uniforms?: Readonly<Record<string, readonly number[]>>;
  readonly groups: readonly [number, number?, number?];
  /** The operation's name in profiles; `shader.entry` when absent. */
  readonly label?: string;
  /** The operation's size in profiles, where it runs at several sizes. */
  readonly shape?: string;
}

interface Prepared {
  readonly kernel: Kernel;
  readonly group: GPUBindGroup;
  readonly dispatch: Dispatch;
}

/** The most workgroups of a dispatch in one dimension, on every adapter. */
const MAX_GROUPS = 65535;

/**
 * A two-dimensional grid of at least `count` workgroups. A kernel's number is `id.x + id.y * num_workgroups.x`, and a kernel
 * whose number is `count` or more stores nothing.
 */
export function linearGroups(count: number): [number, number] {
  const y = Math.ceil(count / MAX_GROUPS);
  return [Math.ceil(count / y), y];
}

export interface Timing extends Work {
  readonly label: string;
  readonly shape?: string;
  readonly milliseconds: number;
}

/** The static list of dispatches of one graph. Pipelines and bind groups are built once; the list is then replayed. */
export class DispatchList {
  readonly #dispatches: Dispatch[] = [];
  #prepared: Prepared[] = [];

  add(dispatch: Dispatch): void {
    const { groups } = dispatch;
    if (groups.some((n) => n === undefined || !Number.isInteger(n) || n < 1 || n > MAX_GROUPS))
      throw new RangeError(`${dispatch.shader}.${dispatch.entry}: cannot dispatch ${groups.join(' x ')} workgroups`);
    this.#dispatches.push(dispatch);
  }

  get dispatches(): readonly Dispatch[] {
    return this.#dispatches;
  }

  get length(): number {
    return this.#dispatches.length;
  }

  /** Builds all pipelines and bind groups. Requests pipelines all at once, because Dawn compiles on several threads. */
  async prepare(kernels: KernelCache): Promise<void> {
    const { device } = kernels.gpu;
    this.#prepared = await Promise.all(
      this.#dispatches.map(async (dispatch) => {
        const resources: Record<string, GPUBufferBinding> = { ...dispatch.bindings };
        for (const [name, numbers] of Object.entries(dispatch.uniforms ?? {}))
          resources[name] = { buffer: kernels.numbers(numbers) };
        const kernel = await kernels.get(dispatch, Object.keys(resources));
        const entries = Object.entries(resources).map(([name, { buffer, offset, size }]) => ({
          binding: kernel.bindings.get(name) as number,
          resource: { buffer, offset, size },
        }));
        const group = device.createBindGroup({ label: dispatch.shader, layout: kernel.layout, entries });
        return { kernel, group, dispatch };
      }),
    );
    kernels.gpu.check();
  }

  /** Index after the last dispatch that binds any byte of `view`. */
  lastUse({ buffer, offset, size }: View): number {
    const touches = (v: View) => v.buffer === buffer && v.offset < offset + size && offset < v.offset + v.size;
    return this.#dispatches.findLastIndex((d) => Object.values(d.bindings).some(touches)) + 1;
  }

  /** Appends dispatches `from` to `to` (exclusive) to `encoder`, in one compute pass. */
  encode(
    encoder: GPUCommandEncoder,
    from = 0,
    to = this.length,
    timestampWrites?: GPUComputePassTimestampWrites,
  ): void {
    const pass = encoder.beginComputePass(timestampWrites && { timestampWrites });
    for (const p of this.#prepared.slice(from, to)) issue(pass, p);
    pass.end();
  }

  submit(gpu: Gpu, from = 0, to = this.length): void {
    const encoder = gpu.device.createCommandEncoder();
    this.encode(encoder, from, to);
    gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * Runs each pipeline of some lists once and waits for it, because drivers compile at the first dispatch. On a software
   * adapter that takes half a second to two seconds each. The caller must discard what the dispatches write.
   */
  static async warmUp(
    gpu: Gpu,
    lists: readonly DispatchList[],
    onProgress?: (done: number, total: number) => void,
  ): Promise<void> {
    const firsts = [...new Map(lists.flatMap((list) => list.#prepared).map((p) => [p.kernel, p])).values()];
    for (const [i, first] of firsts.entries()) {
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      issue(pass, first);
      pass.end();
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.done();
      onProgress?.(i + 1, firsts.length);
    }
  }

  /**
   * Times every dispatch of one run. With timestamp queries, each dispatch is a compute pass of its own. Without
   * them, the host waits for each dispatch, and its time includes the round trip.
   */
  async profile(gpu: Gpu): Promise<Timing[]> {
    const milliseconds = gpu.has('timestamp-query') ? await this.#timestamps(gpu) : await this.#waits(gpu);
    return this.#prepared.map(({ dispatch: d }, i) => ({
      label: d.label ?? `${d.shader}.${d.entry}`,
      shape: d.shape,
      milliseconds: milliseconds[i],
      flops: d.flops,
      bytes: d.bytes,
    }));
  }

  /** Milliseconds that the adapter takes for one run of the list, the mean of `runs` in a row. Needs timestamp queries. */
  async time(gpu: Gpu, runs: number): Promise<number> {
    const [begin, end] = await readTimestamps(gpu, 2, (encoder, querySet) => {
      for (let i = 0; i < runs; i++) {
        const first = i === 0 ? { beginningOfPassWriteIndex: 0 } : {};
        const last = i === runs - 1 ? { endOfPassWriteIndex: 1 } : {};
        const isEdge = i === 0 || i === runs - 1;
        this.encode(encoder, 0, this.length, isEdge ? { querySet, ...first, ...last } : undefined);
      }
    });
    return Number(end - begin) / 1e6 / runs;
  }

  async #timestamps(gpu: Gpu): Promise<number[]> {
    const BATCH = 2000;
    const result: number[] = [];
    for (let from = 0; from < this.#prepared.length; from += BATCH) {
      const part = this.#prepared.slice(from, from + BATCH);
      const stamps = await readTimestamps(gpu, 2 * part.length, (encoder, querySet) =>
        part.forEach((p, i) => {
          const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
          const pass = encoder.beginComputePass({ timestampWrites });
          issue(pass, p);
          pass.end();
        }),
      );
      part.forEach((_, i) => void result.push(Number(stamps[2 * i + 1] - stamps[2 * i]) / 1e6));
    }
    return result;
  }

  async #waits(gpu: Gpu): Promise<number[]> {
    const result: number[] = [];
    for (const p of this.#prepared) {
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      issue(pass, p);
      pass.end();
      const start = performance.now();
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.done();
      result.push(performance.now() - start);
    }
    return result;
  }
}

/** Submits what `encode` encodes. Returns the `count` timestamps of the query set, in nanoseconds. */
async function readTimestamps(
  gpu: Gpu,
  count: number,
  encode: (encoder: GPUCommandEncoder, querySet: GPUQuerySet) => void,
): Promise<BigUint64Array> {
  const querySet = gpu.device.createQuerySet({ type: 'timestamp', count });
  const size = Math.ceil((8 * count) / 256) * 256;
  const buffer = gpu.device.createBuffer({ size, usage: 0x200 | 0x4 });
  const encoder = gpu.device.createCommandEncoder();
  encode(encoder, querySet);
  encoder.resolveQuerySet(querySet, 0, count, buffer, 0);
  gpu.device.queue.submit([encoder.finish()]);
  const stamps = new BigUint64Array(await gpu.read({ buffer, offset: 0, size }));
  buffer.destroy();
  querySet.destroy();
  return stamps;
}

function issue(pass: GPUComputePassEncoder, { kernel, group, dispatch }: Prepared): void {
  pass.setPipeline(kernel.pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...dispatch.groups);
}
