/** Runs apt-get and apt-cache without changing the machine's sources, package lists and cache. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { softwareDriver } from '../../src/node/vulkan.mjs';
import { childEnvironment, cleanups, run, Stop } from './process.mjs';

/** The packages to install. */
export const { packages } = softwareDriver({ ID: 'debian' });

/** The version of the driver that apt would install; '' for none. */
export async function candidateVersion(aptOptions) {
  const { stdout } = await run('apt-cache', [...aptOptions, 'policy', packages[0]], {
    env: { ...childEnvironment, LC_ALL: 'C' },
  });
  const match = /^\s*Candidate:\s*(\S+)/m.exec(stdout);
  return match === null || match[1] === '(none)' ? '' : match[1];
}

/**
 * A temporary folder for all that apt fetches, and a configuration that uses it. The machine's sources, package lists
 * and cache never change.
 */
export function createAptFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lantrain-apt-'));
  cleanups.add(() => fs.rmSync(folder, { recursive: true, force: true }));
  // apt downloads as another user, who must be able to enter the folder.
  fs.chmodSync(folder, 0o755);
  for (const name of ['parts', 'lists/partial', 'archives/partial']) {
    fs.mkdirSync(path.join(folder, name), { recursive: true });
  }
  const configuration = [
    `Dir::Etc::sourcelist "${folder}/lantrain.sources";`,
    `Dir::Etc::sourceparts "${folder}/parts";`,
    `Dir::State::lists "${folder}/lists";`,
    `Dir::Cache::archives "${folder}/archives";`,
    'Dir::Cache::pkgcache "";',
    'Dir::Cache::srcpkgcache "";',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    'DPkg::Lock::Timeout "300";',
    'Dpkg::Use-Pty "false";',
    '#clear APT::Update::Pre-Invoke;',
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
  ];
  fs.writeFileSync(path.join(folder, 'apt.conf'), `${configuration.join('\n')}\n`);
  return folder;
}

/** Runs apt-get. Where it fails, throws a Stop with apt's own words. */
export async function apt(...args) {
  const env = { ...childEnvironment, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const result = await run('apt-get', args, { env });
  if (result.code !== 0) throw new Stop(`apt-get ${args.join(' ')} failed:\n${result.output.trim()}`);
}
