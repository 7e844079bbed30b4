import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList, linearGroups } from '../gpu/list.js';
import type { View } from '../gpu/view.js';

const THREADS = 64;

/** Enough threads to fill the largest GPUs. */
const GROUPS = 8192;

/** Multiply-adds of one round of one thread count two operations each (shaders/ceiling.wgsl). */
const FLOPS_PER_ROUND = GROUPS * THREADS * 64;

/** Every adapter can bind 128 MiB, and two such buffers exceed any cache. */
const COPY_BYTES = 2 ** 27;

/** Long enough that the wait for the end, which is polled every millisecond, does not count. */
const RUN_MS = 150;
const RUNS = 5;

/** The most that an adapter can do. */
export interface Ceilings {
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
}

export async function measureCeilings(kernels: KernelCache): Promise<Ceilings> {
  return { gflops: await multiplyAddCeiling(kernels), gigabytesPerSecond: await bandwidthCeiling(kernels) };
}

/** GFLOP/s of float32 multiply-adds, from a loop of independent chains without loads. */
export async function multiplyAddCeiling(kernels: KernelCache): Promise<number> {
  const { gpu } = kernels;
  const rounds = await gpu.uniform('ceiling rounds', 16);
  const seeds = await gpu.buffer('ceiling seeds', 4);
  const huge = await gpu.buffer('ceiling huge', 1);
  try {
    // The chains approach 1 from different values, without denormals or infinities on the way.
    gpu.write(seeds, Float32Array.of(0.999, 0.001, 1e-6, 0.1));
    const list = new DispatchList();
    list.add({
      shader: 'ceiling',
      entry: 'multiplyAdd',
      constants: {},
      bindings: { rounds, seeds: { ...seeds, size: 16 }, huge },
      groups: [GROUPS],
    });
    await list.prepare(kernels);
    const ms = await medianRun(gpu, (amount) => {
      gpu.write(rounds, Uint32Array.of(amount, 0, 0, 0));
      list.submit(gpu);
    });
    return FLOPS_PER_ROUND / ms / 1e6;
  } finally {
    release(gpu, rounds, seeds, huge);
  }
}

/**
 * GB/s, reads plus writes, of a copy between buffers that exceed the caches. The better of a kernel and the driver's
 * own copy, because a software driver copies faster than its kernels load.
 */
export async function bandwidthCeiling(kernels: KernelCache): Promise<number> {
  const { gpu } = kernels;
  const source = await gpu.buffer('ceiling source', COPY_BYTES / 4);
  const destination = await gpu.buffer('ceiling destination', COPY_BYTES / 4);
  try {
    const list = new DispatchList();
    list.add({
      shader: 'ceiling',
      entry: 'copy',
      constants: {},
      bindings: { source, destination },
      groups: linearGroups(COPY_BYTES / 16 / THREADS),
    });
    await list.prepare(kernels);
    const byKernel = (encoder: GPUCommandEncoder) => list.encode(encoder);
    const byDriver = (encoder: GPUCommandEncoder) =>
      encoder.copyBufferToBuffer(source.buffer, 0, destination.buffer, 0, COPY_BYTES);
    const rates: number[] = [];
    for (const copy of [byKernel, byDriver]) {
      const ms = await medianRun(gpu, (amount) => {
        const encoder = gpu.device.createCommandEncoder();
        for (let i = 0; i < amount; i++) copy(encoder);
        gpu.device.queue.submit([encoder.finish()]);
      });
      rates.push((2 * COPY_BYTES) / ms / 1e6);
    }
    return Math.max(...rates);
  } finally {
    release(gpu, source, destination);
  }
}

/** Milliseconds of one unit of work, from the median run. `submit` queues the given number of units. */
async function medianRun(gpu: Gpu, submit: (amount: number) => void): Promise<number> {
  const time = async (amount: number) => {
    const start = performance.now();
    submit(amount);
    await gpu.done();
    return performance.now() - start;
  };
  // The first run compiles.
  await time(1);
  let amount = 1;
  for (let ms = await time(amount); ms < RUN_MS; ms = await time(amount)) {
    // Short runs are mostly overhead, so a step up is limited to a factor of 8.
    amount = Math.ceil(amount * Math.min(8, Math.max(1.1, (1.1 * RUN_MS) / ms)));
  }
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) times.push(await time(amount));
  return times.sort((a, b) => a - b)[Math.floor(RUNS / 2)] / amount;
}

function release(gpu: Gpu, ...views: readonly View[]): void {
  for (const view of views) gpu.release(view);
}
