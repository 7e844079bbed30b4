/** Checks and installs the packages of package-lock.json. */
import fs from 'node:fs';
import path from 'node:path';
import { root, run, Stop, say } from './process.mjs';

/**
 * Whether npm's list of node_modules has what the lock file requires on this platform, including development
 * dependencies. Optional packages may be missing, except those for this platform: a node_modules copied from another
 * machine lacks them.
 */
export function dependenciesMatch(lock, installed, platform = process.platform, arch = process.arch) {
  const wanted = lock.packages;
  const present = installed.packages;
  if (Object.keys(present).some((name) => wanted[name] === undefined)) return false;
  return Object.entries(wanted).every(([name, want]) => {
    if (name === '') return true;
    const got = present[name];
    if (got !== undefined) return got.version === want.version && got.integrity === want.integrity;
    // Finding out the libc is not worth its cost.
    const forHere = want.os && want.cpu && !want.libc && want.os.includes(platform) && want.cpu.includes(arch);
    return want.optional === true && !forHere;
  });
}

function readJson(name) {
  try {
    return JSON.parse(fs.readFileSync(path.join(root, name), 'utf8'));
  } catch {
    return undefined;
  }
}

/** An npm list without development dependencies. */
function runtimeOf(list) {
  return { packages: Object.fromEntries(Object.entries(list.packages).filter(([, one]) => one.dev !== true)) };
}

/** @param runtimeOnly whether development dependencies may be missing */
export function dependenciesInstalled(runtimeOnly = false) {
  const part = runtimeOnly ? runtimeOf : (list) => list;
  const found = readJson('node_modules/.package-lock.json');
  if (found === undefined) return false;
  const installed = part(found);
  if (!dependenciesMatch(part(readJson('package-lock.json')), installed)) return false;
  // A killed npm can leave its list without the packages.
  return Object.keys(installed.packages).every((name) => fs.existsSync(path.join(root, name, 'package.json')));
}

export async function installDependencies() {
  say('installing the dependencies named in package-lock.json (npm ci)');
  // No dependency needs its install script. webgpu's only removes macOS's quarantine, which is done below.
  const args = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const npmCli = process.env.npm_execpath;
  const underNpm = npmCli !== undefined && path.basename(npmCli) === 'npm-cli.js';
  const result = underNpm
    ? await run(process.execPath, [npmCli, ...args])
    : await run('npm', args, { shell: process.platform === 'win32' });
  if (result.code !== 0) throw new Stop(`npm ci failed:\n${result.output.trim()}`);
  if (process.platform === 'darwin') {
    const binary = 'node_modules/webgpu/dist/darwin-universal/dawn.node';
    await run('xattr', ['-d', 'com.apple.quarantine', binary]);
  }
}
