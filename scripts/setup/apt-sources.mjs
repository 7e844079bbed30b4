/**
 * Reads apt's sources (sources.list(5)) in both formats and writes them again. A driver must come from the machine's
 * own distribution, with the mirrors and keys that apt is configured with.
 */
import fs from 'node:fs';
import path from 'node:path';

/**
 * One source: archives, and the parts that apt uses of each.
 * @typedef {{ uris: string[], suites: string[], components: string[], options: [string, string][] }} Stanza
 */

const words = (text) => text.split(/\s+/).filter((word) => word !== '');

/**
 * Parses apt's sources in deb822 format (sources.list(5)): the stanzas of enabled binary archives. `options`: all other
 * fields, unchanged, so that keys and trust are those of apt's configuration.
 * @param {string} text
 * @returns {Stanza[]}
 */
export function parseDeb822(text) {
  const uncommented = text.replace(/\r/g, '').replace(/^#.*\n?/gm, '');
  return uncommented.split(/\n[ \t]*\n/).flatMap((stanza) => {
    const fields = [...stanza.matchAll(/^([A-Za-z0-9-]+):(.*(?:\n[ \t].*)*)/gm)];
    const get = (name) => {
      const field = fields.find((candidate) => candidate[1].toLowerCase() === name);
      return field === undefined ? '' : field[2].trim();
    };
    if (!words(get('types')).includes('deb') || get('enabled').toLowerCase() === 'no') return [];
    const named = ['types', 'enabled', 'uris', 'suites', 'components'];
    const others = fields.filter((field) => !named.includes(field[1].toLowerCase()));
    return [
      {
        uris: words(get('uris')),
        suites: words(get('suites')),
        components: words(get('components')),
        options: others.map((field) => [field[1], field[2].trim()]),
      },
    ];
  });
}

/**
 * Parses apt's sources in the one-line format into the same stanzas.
 * @param {string} text
 * @returns {Stanza[]}
 */
export function parseOneLine(text) {
  const renamed = { arch: 'Architectures', lang: 'Languages', target: 'Targets' };
  return text.split('\n').flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) return [];
    const options = words(match[1] || '').map((option) => {
      const [name, value] = option.split(/=(.*)/);
      return [renamed[name] || name, String(value).replace(/,/g, ' ')];
    });
    return [{ uris: [match[2]], suites: [match[3]], components: words(match[4]), options }];
  });
}

/** All enabled sources below a folder such as /etc. */
export function readSources(etc) {
  const folder = path.join(etc, 'apt');
  const parts = path.join(folder, 'sources.list.d');
  const names = fs.existsSync(parts) ? fs.readdirSync(parts).sort() : [];
  return [path.join(folder, 'sources.list'), ...names.map((name) => path.join(parts, name))].flatMap((name) => {
    if (!/\.(list|sources)$/.test(name) || !fs.existsSync(name)) return [];
    const text = fs.readFileSync(name, 'utf8');
    return name.endsWith('.sources') ? parseDeb822(text) : parseOneLine(text);
  });
}

/**
 * The sources that the driver may come from: the release's suites, and its backports at the same mirror with the same
 * keys. Third parties' sources are left out, because a broken one must not stop set-up. Both are empty where no mirror
 * of the release is configured.
 * @param {Stanza[]} stanzas
 * @param {string} codename
 * @returns {{ release: Stanza[], backports: Stanza[] }}
 */
export function releaseSources(stanzas, codename) {
  const usable = stanzas.filter((stanza) => stanza.components.includes('main'));
  const has = (suite) => usable.some((stanza) => stanza.suites.includes(suite));
  const suite = [codename, 'stable', 'testing', 'unstable', 'sid', 'oldstable'].find(has);
  if (suite === undefined) return { release: [], backports: [] };
  const suites = [suite, `${suite}-updates`, `${suite}-security`];
  const release = usable
    .map((stanza) => ({
      ...stanza,
      uris: stanza.uris.filter((uri) => !uri.startsWith('cdrom:')),
      suites: stanza.suites.filter((name) => suites.includes(name)),
      components: ['main'],
    }))
    .filter((stanza) => stanza.suites.length > 0 && stanza.uris.length > 0);
  const main = release.filter((stanza) => stanza.suites.includes(suite)).slice(0, 1);
  return { release, backports: main.map((stanza) => ({ ...stanza, suites: [`${codename}-backports`] })) };
}

/** @param {Stanza[]} stanzas */
export function writeDeb822(stanzas) {
  return stanzas
    .map((stanza) =>
      [
        'Types: deb',
        `URIs: ${stanza.uris.join(' ')}`,
        `Suites: ${stanza.suites.join(' ')}`,
        `Components: ${stanza.components.join(' ')}`,
        ...stanza.options.map(([name, value]) => `${name}: ${value}`),
        '',
      ].join('\n'),
    )
    .join('\n');
}

/** The codename of the base release, which derivatives name beside their own. */
export function codenameOf(release) {
  return release.UBUNTU_CODENAME || release.DEBIAN_CODENAME || release.VERSION_CODENAME || '';
}
