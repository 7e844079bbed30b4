import type { Gpu } from '../../src/gpu/device.js';
import { DispatchList } from '../../src/gpu/list.js';
import type { ModelConfig } from '../../src/model/config.js';
import { Graph, launchInto } from '../../src/model/graph.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { ExactSums, type StepReport } from '../../src/model/sums.js';
import { fromFixedPoint, fromWords, toFixedPoint, toWords } from '../../src/reference/fixed-point.js';
import { type GpuHarness, noise } from '../gpu/harness.js';

/** The two ways that threads share rows: one thread a row, as on software adapters, and 64 threads a row. */
export const ROW_PLANS = [
  { rowLanes: 1, rowsPerGroup: 8 },
  { rowLanes: 64, rowsPerGroup: 1 },
] as const;

/** The smallest model; tests of single operations change what matters to them. */
export const MODEL: ModelConfig = {
  vocabSize: 7,
  context: 5,
  width: 4,
  layers: 1,
  heads: 1,
  tie: true,
  qkvBias: true,
};

/** The parameters and sums of one model, and the operations that work on them. */
export class OperationHarness {
  private constructor(
    readonly harness: GpuHarness,
    readonly plan: Plan,
    readonly weights: ParameterArena,
    readonly sums: ExactSums,
    readonly portable: boolean,
  ) {}

  static async create(
    harness: GpuHarness,
    config: Partial<ModelConfig>,
    plan: Partial<Plan> = {},
    portable = false,
  ): Promise<OperationHarness> {
    const whole = { ...defaultPlan(harness.gpu.adapter), ...plan };
    const layout = new ParameterLayout({ ...MODEL, ...config }, whole);
    const weights = await ParameterArena.allocate(harness.gpu, layout, 'weights');
    return new OperationHarness(harness, whole, weights, await ExactSums.allocate(harness.gpu, layout), portable);
  }

  get gpu(): Gpu {
    return this.harness.gpu;
  }

  /** Fills a parameter with noise and returns it. */
  fill(name: string, seed: number, scale = 1): Float32Array {
    const values = noise(this.weights.layout.piecesOf(name)[0].parameter.size, seed, scale);
    this.weights.write(this.gpu, name, values);
    return values;
  }

  /** Runs what `add` launches, `times` times. */
  async run(add: (graph: Graph) => void, times = 1): Promise<void> {
    const list = new DispatchList();
    const { plan, weights, sums, portable } = this;
    add(new Graph(launchInto(list, plan, portable), { plan, weights, sums }));
    await list.prepare(this.harness.kernels);
    for (let i = 0; i < times; i++) list.submit(this.gpu);
    await this.gpu.done();
  }

  /** Puts `values`, rounded to fixed point, into the sums of parameter `name`; returns the rounded values. */
  putSums(name: string, values: ArrayLike<number>): Float32Array {
    const sums = Array.from(values, toFixedPoint);
    for (const [arena, word] of [
      [this.sums.low, 'low'],
      [this.sums.high, 'high'],
    ] as const) {
      const words = Uint32Array.from(sums, (n) => toWords(n)[word]);
      arena.write(this.gpu, name, new Float32Array(words.buffer));
    }
    return Float32Array.from(sums, fromFixedPoint);
  }

  gradient(name: string): Promise<Float64Array> {
    return readGradient(this.gpu, this.sums, name);
  }

  report(): Promise<StepReport> {
    return this.sums.takeReport(this.gpu);
  }
}

/** The sum of a parameter's gradients. */
export async function readGradient(gpu: Gpu, sums: ExactSums, name: string): Promise<Float64Array> {
  const words = async (half: ParameterArena) => new Uint32Array((await half.read(gpu, name)).buffer);
  const [low, high] = [await words(sums.low), await words(sums.high)];
  return Float64Array.from(low, (word, i) => fromFixedPoint(fromWords(word, high[i])));
}
