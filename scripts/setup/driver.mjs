/** Installs Mesa's software Vulkan driver. */
import fs from 'node:fs';
import path from 'node:path';
import { oldestMesa, parseOsRelease } from '../../src/node/vulkan.mjs';
import { apt, candidateVersion, createAptFolder, packages } from './apt.mjs';
import { codenameOf, readSources, releaseSources, writeDeb822 } from './apt-sources.mjs';
import { chooseSuite, manualCommands } from './driver-commands.mjs';
import { run, Stop, say } from './process.mjs';

/**
 * Installs the driver with apt where this process is root. Otherwise throws a Stop with the commands for a user to
 * type.
 * @param etc the folder of the system's configuration; another one only in tests
 */
export async function installDriver(etc = '/etc') {
  const releaseFile = path.join(etc, 'os-release');
  const release = fs.existsSync(releaseFile) ? parseOsRelease(fs.readFileSync(releaseFile, 'utf8')) : {};
  const stanzas = readSources(etc);
  const isRoot = (await run('id', ['-u'])).stdout.trim() === '0';
  const hasApt = (await run('apt-get', ['--version'])).code === 0;
  const sources = releaseSources(stanzas, codenameOf(release));
  if (isRoot && hasApt && sources.release.length > 0) return installWithApt(sources);

  const ownVersion = hasApt ? await candidateVersion([]) : '';
  const commands = manualCommands({ release, stanzas, ownVersion, sudo: !isRoot });
  const how =
    commands.length > 0
      ? `install Mesa's software Vulkan driver:\n${commands.map((line) => `  ${line}`).join('\n')}`
      : `install Mesa's software Vulkan driver (lavapipe), version ${oldestMesa} or newer, with your package manager`;
  throw new Stop(`no usable WebGPU adapter. Without a GPU of your own that has a Vulkan driver, ${how}`);
}

async function installWithApt({ release, backports }) {
  const folder = createAptFolder();
  const options = ['-c', path.join(folder, 'apt.conf')];
  const update = (stanzas) => {
    fs.writeFileSync(path.join(folder, 'lantrain.sources'), writeDeb822(stanzas));
    return apt(...options, 'update');
  };
  const name = release[0].suites[0];
  say(`no usable WebGPU adapter: looking for Mesa's software Vulkan driver in ${name} (apt-get update)`);
  await update(release);
  const ownVersion = await candidateVersion(options);
  let version = ownVersion;
  let target = [];
  if (chooseSuite(ownVersion, '') === undefined) {
    const suite = backports[0].suites[0];
    say(`${name} has ${ownVersion || 'none'}, ${oldestMesa} or newer is needed: looking in ${suite}`);
    await update([...release, ...backports]);
    target = ['-t', suite];
    version = await candidateVersion([...options, '-o', `APT::Default-Release=${suite}`]);
    if (chooseSuite(ownVersion, version) === undefined) {
      throw new Stop(
        `neither ${name} nor ${suite} has Mesa ${oldestMesa} or newer (found: ${version || 'none'}): use a newer ` +
          'release of this distribution, or a GPU with its own Vulkan driver',
      );
    }
  }
  say(`installing ${packages.join(' and ')}, ${version}, with what they depend on (apt-get install)`);
  // --no-remove: other packages may be upgraded with the driver's libraries, but never removed.
  const flags = ['install', '--yes', '--no-remove', '--no-install-recommends', ...target];
  await apt(...options, ...flags, ...packages);
}
