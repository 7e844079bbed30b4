import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { rounded } from '../bench/figures.js';
import { benchShape } from '../bench/shape.js';
import { cacheFolder } from '../data/cache-folder.js';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { type Ceilings, measureCeilings } from '../gpu/ceiling.js';
import { type AdapterDescription, Gpu } from '../gpu/device.js';
import { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { memoryBudget } from '../model/activations.js';
import { addMatmul } from '../model/matmul.js';
import { describeTable } from '../model/matmul-plan.js';
import { parameterCount } from '../model/parameters.js';
import { defaultPlan, type Plan } from '../model/plan.js';
import { pasteable, setupCommand } from '../node/invocation.js';
import { availableMemory } from '../node/memory.js';
import { processor } from '../node/processor.js';
import { loadShaders, packageRoot } from '../node/shaders.js';
import { version } from '../node/version.js';
import { formatBytes } from '../report/format.js';
import { planHash } from '../run/plan.js';
import { PRESET_NAMES, type PresetName } from '../train/presets.js';

export interface DoctorCommand {
  readonly adapter?: string;
  readonly json?: boolean;
}

const FEATURES = ['subgroups', 'shader-f16', 'timestamp-query'] as const;

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;

interface PresetFit {
  readonly name: PresetName;
  readonly parameters: number;
  readonly microBatch: number;
  readonly needsBytes: number;
  /** Null where the adapter's memory is unknown: WebGPU does not tell it. */
  readonly fits: boolean | null;
}

/** What `doctor --json` prints. */
export interface DoctorReport {
  readonly event: 'doctor';
  readonly usable: boolean;
  readonly lantrain: string;
  readonly node: string;
  readonly platform: string;
  /** Its name and vector instructions. */
  readonly processor: string;
  readonly cores: number;
  readonly adapter: AdapterDescription | null;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly plan: Plan | null;
  readonly planHash: string | null;
  readonly selfTest: 'passed' | 'failed' | null;
  readonly ceilings: Ceilings | null;
  readonly availableBytes: number | null;
  readonly presets: readonly PresetFit[];
  readonly cacheFolder: string;
  /** What stops lantrain from training here. */
  readonly problems: readonly string[];
  /** What is slower than it need be, or fails in some cases only. */
  readonly notes: readonly string[];
}

/** Says what this machine can do and what is wrong with it. Returns the exit code: 0 when lantrain can train here. */
export async function doctor(command: DoctorCommand): Promise<number> {
  const report = await examine(command);
  process.stdout.write(`${command.json ? JSON.stringify(report) : describe(report)}\n`);
  return report.usable ? 0 : 1;
}

async function examine({ adapter: wanted }: DoctorCommand): Promise<DoctorReport> {
  const problems: string[] = [];
  const notes: string[] = [];
  const gpu = await open(wanted).catch((error) => {
    problems.push(whyNoAdapter(error, wanted));
    return undefined;
  });
  let selfTest: DoctorReport['selfTest'] = null;
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
    ceilings,
    availableBytes: available ?? null,
    presets: presetFits(plan ?? defaultPlan(ANY_GPU), available),
    cacheFolder: cache,
    problems,
    notes,
  };
}

/** Dawn is loaded here and not before: where it has no binary, all the rest can still be told. */
async function open(wanted?: string): Promise<Gpu> {
  const { openDawn } = await import('../node/dawn.js');
  return Gpu.open(openDawn(wanted));
}

/** Stands in for the adapter that is not there: what a model needs hardly depends on it. */
const ANY_GPU: AdapterDescription = {
  name: '',
  vendor: '',
  architecture: '',
  driver: '',
  software: false,
  subgroupSize: undefined,
};

function presetFits(plan: Plan, available: number | undefined): PresetFit[] {
  return PRESET_NAMES.map((name) => {
    const { model, shape } = benchShape(name);
    const needsBytes = memoryBudget(model, shape, plan).totalBytes;
    const fits = available === undefined ? null : needsBytes <= available;
    return { name, parameters: parameterCount(model), microBatch: shape.batch, needsBytes, fits };
  });
}

/** The largest error of a small product by this plan's kernel, with a bias, against the same product on the CPU. */
async function wrongestProduct(kernels: KernelCache, plan: Plan): Promise<number> {
  const { gpu } = kernels;
  const [m, n, k] = [33, 40, 36];
  const value = (i: number, modulus: number) => ((i * 7) % modulus) / modulus - 0.5;
  const a = Float32Array.from({ length: m * k }, (_, i) => value(i, 31));
  const b = Float32Array.from({ length: k * n }, (_, i) => value(i, 37));
  const bias = Float32Array.from({ length: n }, (_, i) => value(i, 11));
  const put = async (data: Float32Array) => {
    const view = await gpu.buffer('self-test', data.length);
    gpu.write(view, data);
    return view;
  };
  const views = { a: await put(a), b: await put(b), bias: await put(bias), c: await put(new Float32Array(m * n)) };
  const list = new DispatchList();
  addMatmul(list, plan.matmul, {
    layout: 'NN',
    m,
    n,
    k,
    a: views.a,
    lda: k,
    b: views.b,
    ldb: n,
    output: { kind: 'store', c: views.c, ldc: n, bias: views.bias },
  });
  await list.prepare(kernels);
  list.submit(gpu);
  const got = new Float32Array(await gpu.read(views.c));
  for (const view of Object.values(views)) gpu.release(view);
  let worst = 0;
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let want = bias[column];
      for (let i = 0; i < k; i++) want += a[row * k + i] * b[i * n + column];
      const error = Math.abs(got[row * n + column] - want);
      worst = error > worst || Number.isNaN(error) ? error : worst;
    }
  }
  return worst;
}

// ---- What can be wrong ----

const DRIVER_VARIABLES = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES', 'VK_ADD_DRIVER_FILES', 'VK_LOADER_DRIVERS_DISABLE'];

function whyNoAdapter(error: unknown, wanted: string | undefined): string {
  const message = messageOf(error);
  if (!(error instanceof LantrainError)) return `the webgpu package does not work here: ${message}`;
  // What Dawn lists has each adapter's backend, which tells drivers for one GPU apart.
  const said = messageOf(error.cause ?? '');
  if (wanted !== undefined && said.includes('Available adapters'))
    return `no adapter's name contains '${wanted}': ${said.slice(said.indexOf('Available adapters'))}`;
  const set = DRIVER_VARIABLES.filter((name) => process.env[name] !== undefined);
  if (set.length > 0) {
    const hidden = adapterWithout(set);
    const values = set.map((name) => `${name}=${process.env[name]}`).join(' ');
    if (hidden) return `no usable GPU adapter: ${values} hides '${hidden}', which works; unset it, then try again`;
  }
  const driver =
    process.platform === 'linux'
      ? `install the GPU's Vulkan driver, or Mesa's software driver (${softwareDriverPackages()})`
      : "update the graphics card's driver";
  const setup = setupCommand();
  return `no usable GPU adapter: ${driver}${setup === undefined ? '' : `, or let ${setup} do it or say how`}`;
}

/** The name of the adapter that a process without these environment variables finds. */
function adapterWithout(variables: readonly string[]): string | undefined {
  const env = { ...process.env };
  for (const name of variables) delete env[name];
  const script =
    "const gpu = (await import('webgpu')).create([]); const info = (await gpu.requestAdapter())?.info;" +
    "(await import('node:fs')).writeSync(1, info ? info.description || info.device : ''); process.exit(0);";
  const args = ['--input-type=module', '-e', script];
  const { stdout } = spawnSync(process.execPath, args, { cwd: packageRoot(), env, encoding: 'utf8', timeout: 30_000 });
  return stdout?.trim() || undefined;
}

function softwareDriverPackages(): string {
  let release = '';
  try {
    release = readFileSync('/etc/os-release', 'utf8').toLowerCase();
  } catch {
    // A Linux without os-release(5): Debian's names will do.
  }
  const family = /^id(?:_like)?=.*\b(fedora|rhel|arch|suse)/m.exec(release)?.[1];
  if (family === 'fedora' || family === 'rhel') return 'mesa-vulkan-drivers vulkan-loader';
  if (family === 'arch') return 'vulkan-swrast vulkan-icd-loader';
  if (family === 'suse') return 'libvulkan_lvp libvulkan1';
  return 'mesa-vulkan-drivers libvulkan1, version 24 or newer: on Debian 12 from bookworm-backports';
}

function adapterNotes({ adapter, limits }: Gpu, plan: Plan): string[] {
  const notes: string[] = [];
  if (adapter.software)
    notes.push('this is a software adapter: it trains on the CPU, which works, slowly; a GPU with a driver is faster');
  if (adapter.subgroupSize === undefined)
    notes.push(`there are no subgroups of a fixed size; the kernels ${describeTable(plan.matmul)} do without`);
  else if (adapter.software && adapter.subgroupSize !== 8)
    notes.push("Mesa's software driver (lavapipe) is several times as fast as this one");
  if (limits.maxStorageBufferBindingSize < 4 * plan.windowValues)
    notes.push(`bindings of ${formatBytes(limits.maxStorageBufferBindingSize)} are too small for the larger presets`);
  return notes;
}

/** Why nothing can be written below `folder`, which need not exist yet. */
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

function messageOf(error: unknown): string {
  return String(error instanceof Error ? error.message : error).replace(/\s*\n\s*/g, ' ');
}

// ---- In words ----

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

/** FILE is for the reader to fill in. */
const TRAIN_GPT2 = ['train', '--preset', 'gpt2', '--data', 'FILE'];

function presetLine({ name, parameters, microBatch, needsBytes, fits }: PresetFit): string {
  const verdict = fits === null ? '' : fits ? ', fits' : ', does not fit';
  const count = `${(parameters / 1e6).toFixed(1)} M`;
  return `${name.padEnd(14)} ${count.padStart(10)}  ${formatBytes(needsBytes)} at micro-batch ${microBatch}${verdict}`;
}
