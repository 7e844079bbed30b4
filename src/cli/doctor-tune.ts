import { benchShape, describeShape } from '../bench/shape.js';
import { checkWritableFile, writeText } from '../files/atomic.js';
import { defaultPlan } from '../model/plan.js';
import { pasteable } from '../node/invocation.js';
import { openGpu } from '../node/open-gpu.js';
import { describeAdapter } from '../node/processor.js';
import { loadShaders } from '../node/shaders.js';
import { stackedShape } from '../run/fit.js';
import { planHash } from '../run/plan.js';
import { tune, tuningTable } from '../run/tuning.js';
import type { PresetName } from '../train/presets.js';
import { loadingBar } from './loading.js';
import { remarkLine } from './output.js';

export interface DoctorTuneCommand {
  readonly preset: PresetName;
  readonly adapter?: string;
  readonly json?: boolean;
  readonly planOut?: string;
}

/** Times every candidate kernel for the matrix products of a preset and prints the results. Returns the exit code. */
export async function doctorTune({ preset, adapter, json, planOut }: DoctorTuneCommand): Promise<number> {
  if (planOut !== undefined) checkWritableFile(planOut);
  const bench = benchShape(preset);
  const gpu = await openGpu(adapter);
  const base = defaultPlan(gpu.adapter);
  const shape = stackedShape(gpu, bench.model, bench.shape, base, bench.options);
  const { plan, tuned } = await tune({
    gpu,
    shaders: loadShaders(),
    model: bench.model,
    shape,
    plan: base,
    anyBits: true,
    again: true,
    onProgress: loadingBar('timing kernels'),
    onNote: remarkLine,
  });
  if (planOut) await writeText(planOut, `${JSON.stringify(plan, null, 1)}\n`);
  if (json) {
    process.stdout.write(`${JSON.stringify({ event: 'tune', preset, plan, planHash: planHash(plan), tuned })}\n`);
    return 0;
  }
  const lines = [
    `model    ${describeShape(bench, shape.stack)}`,
    `adapter  ${describeAdapter(gpu.adapter)}`,
    tuningTable(tuned),
    `plan     ${planHash(plan).slice(0, 12)}${planOut ? `, written to ${planOut}: ${pasteable(['train', '--plan', planOut])}` : ''}`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}
