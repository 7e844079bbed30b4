/** Chooses a Mesa that is new enough, and the commands for a user to install it. */
import { oldestMesa, softwareDriver } from '../../src/node/vulkan.mjs';
import { codenameOf, releaseSources } from './apt-sources.mjs';

/** The upstream major version of a Debian version such as `1:25.0.7-2~bpo12+1`; 0 for none. */
export function majorVersion(version) {
  const match = /^(?:\d+:)?(\d+)/.exec(version || '');
  return match === null ? 0 : Number(match[1]);
}

/** The suite to install from, by the available versions: the release itself if it is new enough. */
export function chooseSuite(ownVersion, backportsVersion) {
  if (majorVersion(ownVersion) >= oldestMesa) return 'release';
  return majorVersion(backportsVersion) >= oldestMesa ? 'backports' : undefined;
}

/**
 * The commands that install a software driver on this distribution; none for an unknown one.
 * @param release os-release's fields
 * @param ownVersion the driver's version in the release's own suites, '' if apt has no lists to tell
 * @param sudo whether the user is not root
 */
export function manualCommands({ release, stanzas, ownVersion, sudo }) {
  const driver = softwareDriver(release);
  if (driver === undefined) return [];
  const packages = driver.packages.join(' ');
  const prefix = sudo ? 'sudo ' : '';
  if (driver.family === 'fedora') return [`${prefix}dnf install ${packages}`];
  if (driver.family === 'arch') return [`${prefix}pacman -S ${packages}`];
  if (driver.family === 'suse') return [`${prefix}zypper install ${packages}`];
  const install = `${prefix}apt-get install --no-install-recommends`;
  const known = majorVersion(ownVersion);
  // Debian 12 is the last release with a Mesa that is too old.
  const tooOld = known > 0 ? known < oldestMesa : release.ID === 'debian' && Number(release.VERSION_ID) < 13;
  const [backports] = releaseSources(stanzas, codenameOf(release)).backports;
  if (!tooOld || backports === undefined) return [`${prefix}apt-get update`, `${install} ${packages}`];
  const suite = backports.suites[0];
  const key = backports.options.find(([name, value]) => name.toLowerCase() === 'signed-by' && value.startsWith('/'));
  const options = key === undefined ? '' : `[signed-by=${key[1]}] `;
  const line = `deb ${options}${backports.uris[0]} ${suite} main`;
  const configured = stanzas.some((stanza) => stanza.suites.includes(suite));
  return [
    ...(configured ? [] : [`echo '${line}' | ${prefix}tee /etc/apt/sources.list.d/${suite}.list`]),
    `${prefix}apt-get update`,
    `${install} -t ${suite} ${packages}`,
  ];
}
