import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { rounded } from '../bench/figures.js';
import { benchShape } from '../bench/shape.js';
import { type PortableVerdict, portableVerdict } from '../check/small-run.js';
import { cacheFolder } from '../data/cache-folder.js';
import { reason } from '../files/files.js';
import type { AdapterDescription } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernel.js';
import { memoryBudget } from '../model/activations.js';
import { parameterCount } from '../model/parameters.js';
import { defaultPlan, type Plan } from '../model/plan.js';
import { availableMemory } from '../node/memory.js';
import { processor } from '../node/processor.js';
import { loadShaders } from '../node/shaders.js';
import { version } from '../node/version.js';
import { type Ceilings, measureCeilings } from '../run/ceiling.js';
import { planHash } from '../run/plan.js';
import { PRESETS, type PresetName } from '../train/presets.js';
import { adapterNotes, messageOf, openAdapter, whyNoAdapter } from './doctor-adapter.js';
import { wrongestProduct } from './doctor-self-test.js';

const FEATURES = ['subgroups', 'shader-f16', 'timestamp-query'] as const;

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;

export interface PresetFit {
  readonly name: PresetName;
  readonly parameters: number;
  readonly microBatch: number;
  readonly needsBytes: number;
  /** Null where the adapter's memory is unknown, which WebGPU does not tell. */
  readonly fits: boolean | null;
}

/** The output of `doctor --json`. */
export interface DoctorReport {
  readonly event: 'doctor';
  readonly usable: boolean;
  readonly lantrain: string;
  readonly node: string;
  readonly platform: string;
  /** The processor's name and vector instructions. */
  readonly processor: string;
  readonly cores: number;
  readonly adapter: AdapterDescription | null;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly plan: Plan | null;
  readonly planHash: string | null;
  readonly selfTest: 'passed' | 'failed' | null;
  /** Whether it computes portable arithmetic (`--precision portable`); null where it was not tried. */
  readonly portable: PortableVerdict | null;
  readonly ceilings: Ceilings | null;
  readonly availableBytes: number | null;
  readonly presets: readonly PresetFit[];
  readonly cacheFolder: string;
  /** Faults that keep lantrain from training here. */
  readonly problems: readonly string[];
  /** Things that are slow or fail in some cases. */
  readonly notes: readonly string[];
}

/** Examines this machine. `wanted`: a part of an adapter's name. */
export async function examine(wanted: string | undefined): Promise<DoctorReport> {
  const problems: string[] = [];
  const notes: string[] = [];
  const gpu = await openAdapter(wanted).catch((error) => {
    problems.push(whyNoAdapter(error, wanted));
    return undefined;
  });
  let selfTest: DoctorReport['selfTest'] = null;
  let portable: PortableVerdict | null = null;
  let ceilings: Ceilings | null = null;
  if (gpu) {
    const plan = defaultPlan(gpu.adapter);
    notes.push(...adapterNotes(gpu, plan));
    const kernels = new KernelCache(gpu, loadShaders());
    try {
      const worst = await wrongestProduct(kernels, plan);
      selfTest = worst < 1e-4 ? 'passed' : 'failed';
      if (selfTest === 'failed')
        problems.push(
          `a small matrix product on this adapter is wrong by ${worst.toPrecision(2)}: its driver computes wrongly; ` +
            'update it, or choose another adapter with --adapter',
        );
      portable = await portableVerdict(gpu, loadShaders(), plan);
      const { gflops, gigabytesPerSecond } = await measureCeilings(kernels);
      ceilings = { gflops: rounded(gflops, 2), gigabytesPerSecond: rounded(gigabytesPerSecond, 2) };
    } catch (error) {
      selfTest ??= 'failed';
      problems.push(`the adapter fails at a small task: ${messageOf(error)}`);
    }
  }
  const cache = cacheFolder();
  const cacheProblem = whyNotWritable(cache);
  if (cacheProblem)
    notes.push(
      `the cache folder ${cache} cannot be written (${cacheProblem}): downloads and token caches of big files will ` +
        'fail; set LANTRAIN_CACHE to a folder that can be written',
    );
  const plan = gpu ? defaultPlan(gpu.adapter) : null;
  const available = gpu && availableMemory(gpu.adapter);
  return {
    event: 'doctor',
    usable: problems.length === 0,
    lantrain: version(),
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    processor: processor(),
    cores: availableParallelism(),
    adapter: gpu?.adapter ?? null,
    features: gpu ? FEATURES.filter((f) => gpu.has(f)) : [],
    limits: gpu ? Object.fromEntries(LIMITS.map((name) => [name, gpu.limits[name]])) : {},
    plan,
    planHash: plan && planHash(plan),
    selfTest,
    portable,
    ceilings,
    availableBytes: available ?? null,
    presets: presetFits(plan ?? defaultPlan(ANY_GPU), available),
    cacheFolder: cache,
    problems,
    notes,
  };
}

/** Replaces a missing adapter: a model's memory hardly depends on it. */
const ANY_GPU: AdapterDescription = {
  name: '',
  vendor: '',
  architecture: '',
  driver: '',
  software: false,
  subgroupSize: undefined,
};

function presetFits(plan: Plan, available: number | undefined): PresetFit[] {
  return (Object.keys(PRESETS) as PresetName[]).map((name) => {
    const { model, shape } = benchShape(name);
    const needsBytes = memoryBudget(model, shape, plan).totalBytes;
    const fits = available === undefined ? null : needsBytes <= available;
    return { name, parameters: parameterCount(model), microBatch: shape.batch, needsBytes, fits };
  });
}

/** Why nothing can be written in `folder`, which need not exist yet; undefined where it can. */
function whyNotWritable(folder: string): string | undefined {
  let existing = folder;
  while (!existsSync(existing) && dirname(existing) !== existing) existing = dirname(existing);
  if (!statSync(existing).isDirectory()) return `${existing} is not a folder`;
  try {
    accessSync(existing, constants.W_OK);
    return undefined;
  } catch (error) {
    return reason(error);
  }
}
