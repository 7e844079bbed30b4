import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { LantrainError } from '../errors.js';
import { Gpu } from '../gpu/device.js';
import { describeTable } from '../model/matmul-plan.js';
import type { Plan } from '../model/plan.js';
import { setupCommand } from '../node/invocation.js';
import { packageRoot } from '../node/shaders.js';
import {
  driverVariables,
  oldestMesa,
  parseOsRelease,
  probeAnswer,
  probeArguments,
  softwareDriver,
} from '../node/vulkan.mjs';
import { formatBytes } from '../report/format.js';

/** Loads Dawn only now: where it has no binary, `doctor` can still tell everything else. */
export async function openAdapter(wanted?: string): Promise<Gpu> {
  const { openDawn } = await import('../node/dawn.js');
  return Gpu.open(openDawn(wanted));
}

/** One line on why `openAdapter(wanted)` threw `error`, and what to do. */
export function whyNoAdapter(error: unknown, wanted: string | undefined): string {
  const message = messageOf(error);
  if (!(error instanceof LantrainError)) return `the webgpu package does not work here: ${message}`;
  // Dawn's list names each adapter's backend, which tells drivers for one GPU apart.
  const said = messageOf(error.cause ?? '');
  if (wanted !== undefined && said.includes('Available adapters'))
    return `no adapter's name contains '${wanted}': ${said.slice(said.indexOf('Available adapters'))}`;
  const set = driverVariables.filter((name) => process.env[name] !== undefined);
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

/** The name of the adapter that a process without these environment variables finds; undefined where it finds none. */
function adapterWithout(variables: readonly string[]): string | undefined {
  const env = { ...process.env };
  for (const name of variables) delete env[name];
  const where = { cwd: packageRoot(), env, timeout: 30_000 };
  const { stdout } = spawnSync(process.execPath, probeArguments, { ...where, encoding: 'utf8' });
  return probeAnswer(stdout ?? '')?.adapter;
}

/** This distribution's packages of the software driver; Debian's for an unknown distribution. */
function softwareDriverPackages(): string {
  let release: Record<string, string> = {};
  try {
    release = parseOsRelease(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    // This Linux has no os-release(5).
  }
  const { family, packages } = softwareDriver(release) ?? softwareDriver({ ID: 'debian' }) ?? { packages: [] };
  const names = packages.join(' ');
  return family === 'debian' ? `${names}, version ${oldestMesa} or newer: on Debian 12 from bookworm-backports` : names;
}

/** Notes on what is slow on this adapter or does not fit. */
export function adapterNotes({ adapter, limits }: Gpu, plan: Plan): string[] {
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

/** An error's message in one line. */
export function messageOf(error: unknown): string {
  return String(error instanceof Error ? error.message : error).replace(/\s*\n\s*/g, ' ');
}
