import type { DispatchList, Timing } from '../gpu/list.js';
import { openGpu } from '../node/open-gpu.js';
import { describeAdapter } from '../node/processor.js';
import { type Ceilings, measureCeilings } from '../run/ceiling.js';
import { resolvePlan } from '../run/plan.js';
import { ceilingShare, type KernelRow, kernelTable, rate, slowestFirst, summarize } from '../run/profile.js';
import type { Engine } from '../train/engine.js';
import { median, rounded } from './figures.js';
import type { BenchReport, BenchRequest, Progress } from './request.js';
import { benchEngine, benchShape, describeShape, randomBatches } from './shape.js';

/** The most repetitions of the lists. A time limit may allow fewer, but at least one. */
const MOST_REPETITIONS = 9;
const TIMED_MS = 45_000;

/** Times every kernel of a training step at its real shapes. Writes no files. */
export async function benchKernels(request: BenchRequest, progress: Progress): Promise<BenchReport> {
  const bench = benchShape(request.preset, request.explicit);
  const gpu = await openGpu(request.adapter);
  const engine = await benchEngine(
    gpu,
    bench,
    resolvePlan({ plan: request.plan }, gpu, bench.options.precision),
    progress,
  );
  const batches = randomBatches(bench);
  // This loads the tokens and compiles the update's kernels.
  await engine.step(batches, 1, bench.options.seed, bench.options.lr);
  await gpu.done();

  const { rows, ceilings } = await timeKernels(engine, batches.length, progress, request.steps);
  const total = rows.reduce((sum, r) => sum + r.milliseconds, 0);
  const { gflops, gigabytesPerSecond } = ceilings;
  const lines = [
    `model    ${describeShape(bench, engine.gpt.stack)}`,
    `adapter  ${describeAdapter(gpu.adapter)}`,
    `limits   ${gflops.toFixed(1)} GFLOP/s multiply-add, ${gigabytesPerSecond.toFixed(1)} GB/s copying`,
    kernelTable('one training step, kernel by kernel', rows, ceilings),
  ];
  return { events: rows.map((row) => event(row, total, ceilings)), lines };
}

function event(row: KernelRow, total: number, ceilings: Ceilings) {
  const number = (value: number | undefined, digits: number) => (value === undefined ? null : rounded(value, digits));
  return {
    event: 'kernel',
    kernel: row.label,
    count: row.count,
    milliseconds: rounded(row.milliseconds, 3),
    gflops: number(rate(row.flops, row.milliseconds), 2),
    gigabytesPerSecond: number(rate(row.bytes, row.milliseconds), 2),
    ceilingShare: number(ceilingShare(row, ceilings), 4),
    stepShare: rounded(row.milliseconds / total, 4),
  };
}

/**
 * Times the kernels of one step and the adapter's ceilings in turns, because a machine's speed varies. Medians over the
 * repetitions.
 */
async function timeKernels(
  engine: Engine,
  microBatches: number,
  progress: Progress,
  asked?: number,
): Promise<{ readonly rows: KernelRow[]; readonly ceilings: Ceilings }> {
  const { gpu, kernels } = engine;
  const lists = new Map<DispatchList, number>();
  for (const list of [...engine.gradientLists(microBatches), ...engine.updateLists])
    lists.set(list, (lists.get(list) ?? 0) + 1);
  /** The step's dispatches: each distinct list is run once and counted as often as a step runs it. */
  const time = async () => {
    const timings: Timing[] = [];
    for (const [list, times] of lists) {
      const once = await list.profile(gpu);
      for (let i = 0; i < times; i++) timings.push(...once);
    }
    return summarizeSizes(timings);
  };
  const samples = new Map<string, KernelRow[]>();
  const repetitions = asked ?? MOST_REPETITIONS;
  const measured = [await measureCeilings(kernels)];
  const tell = progress('timing the kernels');
  const start = performance.now();
  for (let i = 0; i < repetitions; i++) {
    tell(i, repetitions);
    for (const row of await time()) samples.set(row.label, [...(samples.get(row.label) ?? []), row]);
    measured.push(await measureCeilings(kernels));
    if (asked === undefined && performance.now() - start > TIMED_MS) break;
  }
  tell(repetitions, repetitions);
  const medians = [...samples.values()].map((rows) => ({
    ...rows[0],
    milliseconds: median(rows.map((r) => r.milliseconds)),
  }));
  const ceilings = {
    gflops: median(measured.map((c) => c.gflops)),
    gigabytesPerSecond: median(measured.map((c) => c.gigabytesPerSecond)),
  };
  return { rows: slowestFirst(medians), ceilings };
}

/** One row for each operation and size. */
function summarizeSizes(timings: readonly Timing[]): KernelRow[] {
  return summarize(timings, ({ label, shape }) => (shape === undefined ? label : `${label} ${shape}`));
}
