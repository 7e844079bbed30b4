/** apt-get and apt-cache, run so that the machine's own sources, package lists and cache stay as they are. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { softwareDriver } from '../../src/node/vulkan.mjs';
import { childEnvironment, cleanups, run, Stop } from './process.mjs';

/** What is installed. */
export const { packages } = softwareDriver({ ID: 'debian' });

/** The driver's version that apt would install, '' for none. */
export async function candidateVersion(aptOptions) {
  const { stdout } = await run('apt-cache', [...aptOptions, 'policy', packages[0]], {
    env: { ...childEnvironment, LC_ALL: 'C' },
  });
  const match = /^\s*Candidate:\s*(\S+)/m.exec(stdout);
  return match === null || match[1] === '(none)' ? '' : match[1];
}

/**
 * A temporary folder in which apt keeps all that it fetches, and a configuration that says so: the machine's own
 * sources, package lists and cache stay as they are, whatever happens.
 */
export function createAptFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lantrain-apt-'));
  cleanups.add(() => fs.rmSync(folder, { recursive: true, force: true }));
  // apt downloads as a user of its own.
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

/** Runs apt-get, and ends set-up with apt's own words where it fails. */
export async function apt(...args) {
  const env = { ...childEnvironment, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const result = await run('apt-get', args, { env });
  if (result.code !== 0) throw new Stop(`apt-get ${args.join(' ')} failed:\n${result.output.trim()}`);
}
