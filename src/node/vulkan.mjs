/**
 * What set-up and `lantrain doctor` know of adapters and their drivers. Set-up runs before anything is built or
 * installed, so this file is plain JavaScript that Node 12 can parse, and imports nothing.
 */

/** Dawn refuses Mesa 22 ("shaderUniform*ArrayDynamicIndexing required"). */
export const oldestMesa = 24;

/** Environment variables that hide drivers from Vulkan's loader. */
export const driverVariables = [
  'VK_DRIVER_FILES',
  'VK_ICD_FILENAMES',
  'VK_ADD_DRIVER_FILES',
  'VK_LOADER_DRIVERS_DISABLE',
];

/** Packages of Mesa's software Vulkan driver and of Vulkan's loader, by family of distributions. */
const DRIVER_PACKAGES = {
  debian: ['mesa-vulkan-drivers', 'libvulkan1'],
  fedora: ['mesa-vulkan-drivers', 'vulkan-loader'],
  arch: ['vulkan-swrast', 'vulkan-icd-loader'],
  suse: ['libvulkan_lvp', 'libvulkan1'],
};

/** The family of a distribution by its name in os-release(5). */
const FAMILIES = {
  debian: 'debian',
  ubuntu: 'debian',
  fedora: 'fedora',
  rhel: 'fedora',
  arch: 'arch',
  suse: 'suse',
  opensuse: 'suse',
};

/**
 * Parses os-release(5): `KEY=value` lines, with values possibly quoted.
 * @param {string} text
 * @returns {Record<string, string>}
 */
export function parseOsRelease(text) {
  const entries = text.split('\n').map((line) => /^([A-Z_]+)=(["']?)(.*)\2\s*$/.exec(line));
  return Object.fromEntries(entries.filter((match) => match !== null).map((match) => [match[1], match[3]]));
}

/**
 * This distribution's family and its packages of the software driver; undefined for an unknown distribution.
 * @param {Record<string, string>} release os-release's fields
 * @returns {{ family: 'debian' | 'fedora' | 'arch' | 'suse', packages: string[] } | undefined}
 */
export function softwareDriver(release) {
  const names = `${release.ID || ''} ${release.ID_LIKE || ''}`.toLowerCase().split(/\s+/);
  const name = names.find((one) => FAMILIES[one] !== undefined);
  if (name === undefined) return undefined;
  return { family: FAMILIES[name], packages: DRIVER_PACKAGES[FAMILIES[name]] };
}

/**
 * Arguments of a Node process that asks Dawn for an adapter and answers on stdout. It is a separate process because a
 * broken driver may crash it. Its working directory must be in the package, where `webgpu` is found.
 */
export const probeArguments = [
  '--input-type=module',
  '-e',
  `
import fs from 'node:fs';
const answer = (value) => { fs.writeSync(1, JSON.stringify(value)); process.exit(0); };
let create;
try { ({ create } = await import('webgpu')); } catch (error) { answer({ unloadable: error.message }); }
const gpu = create([]);
const adapter = await gpu.requestAdapter();
answer({ adapter: adapter && (adapter.info.description || adapter.info.device || adapter.info.vendor || 'unnamed') });
`,
];

/**
 * Parses the probe's answer.
 * @param {string} stdout
 * @returns {{ adapter?: string, unloadable?: string } | undefined} the adapter's name, absent where there is none; why
 *   the webgpu package does not load; undefined where the probe did not come to an answer
 */
export function probeAnswer(stdout) {
  try {
    const { adapter, unloadable } = JSON.parse(stdout);
    return { adapter: adapter || undefined, unloadable };
  } catch {
    return undefined;
  }
}
