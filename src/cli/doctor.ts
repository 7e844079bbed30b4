import { describeTable } from '../model/matmul-plan.js';
import { pasteable } from '../node/invocation.js';
import { formatBytes } from '../report/format.js';
import { type DoctorReport, examine, type PresetFit } from './doctor-report.js';

export interface DoctorCommand {
  readonly adapter?: string;
  readonly json?: boolean;
}

/**
 * Prints what this machine can do and what is wrong with it. Returns the exit code: 0 where lantrain can train here.
 */
export async function doctor(command: DoctorCommand): Promise<number> {
  const report = await examine(command.adapter);
  process.stdout.write(`${command.json ? JSON.stringify(report) : describe(report)}\n`);
  return report.usable ? 0 : 1;
}

function describe(report: DoctorReport): string {
  const { adapter, limits, plan, ceilings, selfTest, availableBytes } = report;
  const lines = [
    `lantrain   ${report.lantrain}, Node ${report.node}, ${report.platform}`,
    `processor  ${report.processor}, ${report.cores} cores`,
    `cache      ${report.cacheFolder}`,
  ];
  if (adapter && plan) {
    const kind = adapter.software ? 'software, on the CPU' : 'hardware';
    const lanes = adapter.subgroupSize === undefined ? '' : ` (of ${adapter.subgroupSize})`;
    const features = report.features.map((f) => (f === 'subgroups' ? f + lanes : f)).join(', ');
    lines.push(
      `adapter    ${adapter.name}`,
      `driver     ${adapter.driver || 'not told'}`,
      `vendor     ${[adapter.vendor, adapter.architecture].filter(Boolean).join(', ') || 'not told'}; ${kind}`,
      `features   ${features || 'none of those that lantrain uses'}`,
      `limits     buffers of ${formatBytes(limits.maxBufferSize)}, bindings of ${formatBytes(limits.maxStorageBufferBindingSize)}, ` +
        `${limits.maxStorageBuffersPerShaderStage} storage buffers a stage, ` +
        `${limits.maxComputeWorkgroupStorageSize / 1024} KiB workgroup memory, ` +
        `${limits.maxComputeInvocationsPerWorkgroup} invocations a workgroup`,
      `kernels    matrix products ${describeTable(plan.matmul)}, attention ${plan.attention} (plan ${report.planHash?.slice(0, 12)})`,
      `self-test  ${selfTest ?? 'not run'}`,
      `portable   ${describePortable(report.portable)}`,
    );
  } else lines.push('adapter    none');
  if (ceilings)
    lines.push(
      `ceiling    ${ceilings.gflops.toFixed(1)} GFLOP/s multiply-add, ${ceilings.gigabytesPerSecond.toFixed(1)} GB/s copying (read + write)`,
    );
  lines.push(
    `memory     ${availableBytes === null ? "unknown: WebGPU does not tell a GPU's memory" : `${formatBytes(availableBytes)} available`}`,
    '',
    'preset         parameters  needs',
    ...report.presets.map(presetLine),
    '',
    ...report.notes.map((note) => `note: ${note}`),
    ...report.problems.map((problem) => `wrong: ${problem}`),
  );
  if (report.usable) {
    lines.push(`lantrain can train here: ${pasteable(['demo'])}`);
    if (adapter && !adapter.software) lines.push(`and GPT-2: ${pasteable(TRAIN_GPT2)}`);
  }
  return lines.join('\n');
}

function describePortable(verdict: DoctorReport['portable']): string {
  if (verdict === null) return 'not tried';
  const { portable, fastKernels, difference } = verdict;
  if (!portable) return `no: ${difference}`;
  return fastKernels === undefined ? 'yes' : `yes, by slower kernels; the fast ones are not: ${fastKernels}`;
}

/** The reader replaces FILE. */
const TRAIN_GPT2 = ['train', '--preset', 'gpt2', '--data', 'FILE'];

function presetLine({ name, parameters, microBatch, needsBytes, fits }: PresetFit): string {
  const verdict = fits === null ? '' : fits ? ', fits' : ', does not fit';
  const count = `${(parameters / 1e6).toFixed(1)} M`;
  return `${name.padEnd(14)} ${count.padStart(10)}  ${formatBytes(needsBytes)} at micro-batch ${microBatch}${verdict}`;
}
