/**
 * What set-up and `lantrain doctor` both know of adapters and of the drivers that give them. Set-up runs before anything
 * is built or installed, so this file is plain JavaScript, keeps to what Node 12 can parse and imports nothing.
 */

/** Dawn refuses Mesa 22 ("shaderUniform*ArrayDynamicIndexing required"). */
export const oldestMesa = 24;

/** Environment variables by which Vulkan's loader passes drivers over. */
export const driverVariables = [
  'VK_DRIVER_FILES',
  'VK_ICD_FILENAMES',
  'VK_ADD_DRIVER_FILES',
  'VK_LOADER_DRIVERS_DISABLE',
];

/** The packages of Mesa's software Vulkan driver and of Vulkan's loader, by family of distributions. */
const DRIVER_PACKAGES = {
  debian: ['mesa-vulkan-drivers', 'libvulkan1'],
  fedora: ['mesa-vulkan-drivers', 'vulkan-loader'],
  arch: ['vulkan-swrast', 'vulkan-icd-loader'],
  suse: ['libvulkan_lvp', 'libvulkan1'],
};

/** The family that a distribution named so in os-release(5) belongs to. */
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
 * os-release(5): `KEY=value` lines, values possibly quoted.
 * @param {string} text
 * @returns {Record<string, string>}
 */
export function parseOsRelease(text) {
  const entries = text.split('\n').map((line) => /^([A-Z_]+)=(["']?)(.*)\2\s*$/.exec(line));
  return Object.fromEntries(entries.filter((match) => match !== null).map((match) => [match[1], match[3]]));
}

/**
 * The family of distributions that this one belongs to, and its packages of the software driver; undefined where its
 * package manager is not known here.
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
 * Arguments of a Node that asks Dawn for an adapter and answers on stdout. It is a process of its own, as a broken driver
 * may take its process down. Its working directory has to be in the package, where `webgpu` is found.
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
 * What the probe answered.
 * @param {string} stdout
 * @returns {{ adapter?: string, unloadable?: string } | undefined} the adapter's name, absent where there is none; why the
 *   webgpu package does not load; undefined where the probe did not come to an answer
 */
export function probeAnswer(stdout) {
  try {
    const { adapter, unloadable } = JSON.parse(stdout);
    return { adapter: adapter || undefined, unloadable };
  } catch {
    return undefined;
  }
}
