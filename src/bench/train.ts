import { performance } from 'node:perf_hooks';
import type { ModelConfig } from '../model/config.js';
import { parameterCount, parameters } from '../model/parameters.js';
import { openGpu } from '../node/open-gpu.js';
import { describeAdapter } from '../node/processor.js';
import { formatBytes } from '../report/format.js';
import { multiplyAddCeiling } from '../run/ceiling.js';
import { resolvePlan } from '../run/plan.js';
import type { Engine } from '../train/engine.js';
import { median, percent, rounded } from './figures.js';
import type { BenchReport, BenchRequest, Progress } from './request.js';
import { benchEngine, benchShape, describeShape, randomBatches } from './shape.js';

/** The timed steps together take about this long, unless `--steps` is given. */
const TIMED_MS = 30_000;
const FEWEST_STEPS = 5;
const MOST_STEPS = 50;

/** The ceiling is measured again after this much time of steps, so that other load on the machine affects both. */
const CEILING_EVERY_MS = 3000;

/** Untimed steps at the start, at least one: a driver compiles the update's kernels in it. */
const WARM_UP_STEPS = 3;
const WARM_UP_MS = 3000;

interface Measured {
  readonly stepMs: number;
  readonly steps: number;
  /** Milliseconds a step in which the JavaScript thread was busy. */
  readonly hostMs: number;
  /** The median of ceilings measured between the steps. */
  readonly ceilingGflops: number;
}

/** Times whole training steps on random tokens; nothing is written. */
export async function benchTrain(request: BenchRequest, progress: Progress): Promise<BenchReport> {
  const bench = benchShape(request.preset, request.explicit);
  const gpu = await openGpu(request.adapter);
  const engine = await benchEngine(
    gpu,
    bench,
    resolvePlan({ plan: request.plan }, gpu, bench.options.precision),
    progress,
  );
  const batches = randomBatches(bench);
  const { lr, seed, batch } = bench.options;
  const { stepMs, steps, hostMs, ceilingGflops } = await timeSteps(
    {
      step: (number) => engine.step(batches, number, seed, lr),
      done: () => gpu.done(),
      ceiling: () => multiplyAddCeiling(engine.kernels),
    },
    progress,
    request.steps,
  );
  const tokens = batch * bench.model.context;
  const modelGflops = (6 * productParameters(bench.model) * tokens) / stepMs / 1e6;
  const dispatches = dispatchesPerStep(engine, batches.length);
  const result = {
    event: 'bench',
    parameters: parameterCount(bench.model),
    stepMs: rounded(stepMs, 2),
    tokensPerSecond: rounded((1000 * tokens) / stepMs, 2),
    modelGflops: rounded(modelGflops, 3),
    ceilingGflops: rounded(ceilingGflops, 3),
    ceilingShare: rounded(modelGflops / ceilingGflops, 4),
    peakBytes: gpu.memory.peakBytes,
    dispatches,
    hostMs: rounded(hostMs, 2),
  };
  const lines = [
    `model    ${result.parameters.toLocaleString('en')} parameters: ${describeShape(bench, engine.gpt.stack)}`,
    `adapter  ${describeAdapter(gpu.adapter)}`,
    `step     ${stepMs.toFixed(1)} ms (median of ${steps}), ${result.tokensPerSecond} tokens/s`,
    `work     ${modelGflops.toFixed(1)} GFLOP/s in matrix products, ${percent(result.ceilingShare)} of the adapter's ${ceilingGflops.toFixed(1)}`,
    `memory   ${formatBytes(result.peakBytes)} on the adapter`,
    `host     ${hostMs.toFixed(1)} ms a step (${percent(hostMs / stepMs)}), ${dispatches} dispatches`,
  ];
  return { events: [result], lines };
}

interface TimedWork {
  readonly step: (number: number) => Promise<unknown>;
  /** Resolves when all queued work is done: a step returns before its update is. */
  readonly done: () => Promise<void>;
  readonly ceiling: () => Promise<number>;
}

async function timeSteps({ step, done, ceiling }: TimedWork, progress: Progress, asked?: number): Promise<Measured> {
  let number = 0;
  const timed = async (what: () => Promise<unknown>) => {
    const start = performance.now();
    await what();
    return performance.now() - start;
  };
  const next = () => timed(() => step(++number));
  const began = performance.now();
  let lastMs = 0;
  while (number < WARM_UP_STEPS && (number === 0 || performance.now() - began < WARM_UP_MS)) lastMs = await next();
  await done();

  const steps = asked ?? Math.min(MOST_STEPS, Math.max(FEWEST_STEPS, Math.floor(TIMED_MS / lastMs)));
  const tell = progress(`timing ${steps} steps`);
  const times: number[] = [];
  const ceilings = [await ceiling()];
  let hostMs = 0;
  while (times.length < steps) {
    const first = times.length;
    const busy = performance.eventLoopUtilization();
    const start = performance.now();
    while (times.length < steps && performance.now() - start < CEILING_EVERY_MS) {
      tell(times.length, steps);
      times.push(await next());
    }
    // The first step waited for no earlier update. The wait for the last one's is added to it instead.
    times[first] += await timed(done);
    hostMs += performance.eventLoopUtilization(busy).active;
    ceilings.push(await ceiling());
  }
  tell(steps, steps);
  return { stepMs: median(times), steps, hostMs: hostMs / steps, ceilingGflops: median(ceilings) };
}

/** Parameters in matrix products: the matrices of all linear layers, and the head, tied or not. */
export function productParameters(model: ModelConfig): number {
  const matrices = parameters(model).filter((p) => p.kind === 'matrix');
  const head = model.tie ? model.vocabSize * model.width : 0;
  return matrices.reduce((sum, p) => sum + p.size, head);
}

function dispatchesPerStep(engine: Engine, microBatches: number): number {
  return [...engine.gradientLists(microBatches), ...engine.updateLists].reduce((sum, list) => sum + list.length, 0);
}
