/**
 * Set-up, run by `npm start`, `npm test` and `npm run lantrain` before anything else: dependencies, build, a usable WebGPU
 * adapter. `--build` stops after the build (`npm run build`). What is in place already is left alone, in silence.
 *
 * An old Node must get as far as the version check, so this file keeps to what Node 12 can parse: default imports, no
 * optional chaining, no top-level await. It imports nothing that has to be installed first.
 */
import childProcess from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(import.meta.url);
const root = path.resolve(path.dirname(file), '..', '..');
const sourceFolders = ['src', 'cluster'];
const buildInputs = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/bundle.mjs'];
/** What runs in browsers: bundled, not compiled file by file. */
const browserFolders = ['src/watch/page/', 'cluster/tab/'];
const bundler = 'scripts/bundle.mjs';
const driverPackages = ['mesa-vulkan-drivers', 'libvulkan1'];
/** Dawn refuses Mesa 22 ("shaderUniform*ArrayDynamicIndexing required"). */
const oldestMesa = 24;
const driverVariables = ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES'];
const lockBeatMs = 2000;
const lockStaleMs = 15000;
const adapterTimeoutMs = 60000;

/** A step that cannot be done: its message goes to the user as it is, and set-up exits 1. */
class Stop extends Error {}

/** What must not outlive this process: the lock, temporary folders. */
const cleanups = new Set();
const children = new Set();
/** Set once a signal asked for the end. */
let exitCode;

/** To stderr: stdout belongs to the command that set-up goes before. */
function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}

/** What packages run when they are installed is none of the token's business. */
const childEnvironment = Object.assign({}, process.env);
delete childEnvironment.LANTRAIN_TOKEN;

/** Runs a command to its end, printing nothing. A command that cannot be started has the code -1. */
function run(command, args, options = {}) {
  const { timeoutMs, ...spawnOptions } = options;
  return new Promise((resolve) => {
    const child = childProcess.spawn(command, args, {
      cwd: root,
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
      ...spawnOptions,
    });
    children.add(child);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const result = { code: -1, stdout: '', stderr: '', output: '' };
    const finish = (code) => {
      clearTimeout(timer);
      children.delete(child);
      if (exitCode === undefined) resolve({ ...result, code });
      else if (children.size === 0) process.exit(exitCode);
    };
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', (text) => {
        result[stream] += text;
        result.output += text;
      });
    }
    child.on('error', (error) => {
      result.output += error.message;
      finish(-1);
    });
    child.on('close', (code, signal) => {
      if (code === null) result.output += `\nended by ${signal}`;
      finish(code === null ? -1 : code);
    });
  });
}

/** @returns what to say to a Node that is too old, else undefined. */
export function refuseNode(version) {
  if (Number(version.split('.')[0]) >= 20) return undefined;
  return `lantrain needs Node 20 or newer, this is Node ${version}: install a newer one (https://nodejs.org), then try again`;
}

// ---- Dependencies ----

/**
 * Whether what npm wrote down about node_modules is what the lock file asks for on this platform, development
 * dependencies included. Optional packages may be missing, but not those made for this very platform: a node_modules
 * that was copied from another machine lacks them.
 */
export function dependenciesMatch(lock, installed, platform = process.platform, arch = process.arch) {
  const wanted = lock.packages;
  const present = installed.packages;
  if (Object.keys(present).some((name) => wanted[name] === undefined)) return false;
  return Object.entries(wanted).every(([name, want]) => {
    if (name === '') return true;
    const got = present[name];
    if (got !== undefined) return got.version === want.version && got.integrity === want.integrity;
    // Which libc this is costs more to find out than it is worth.
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

/** An npm list without what only development needs. */
function runtimeOf(list) {
  return { packages: Object.fromEntries(Object.entries(list.packages).filter(([, one]) => one.dev !== true)) };
}

function dependenciesInstalled(runtimeOnly = false) {
  const part = runtimeOnly ? runtimeOf : (list) => list;
  const found = readJson('node_modules/.package-lock.json');
  if (found === undefined) return false;
  const installed = part(found);
  if (!dependenciesMatch(part(readJson('package-lock.json')), installed)) return false;
  // An npm that was killed can leave its list without the packages.
  return Object.keys(installed.packages).every((name) => fs.existsSync(path.join(root, name, 'package.json')));
}

async function installDependencies() {
  say('installing the dependencies named in package-lock.json (npm ci)');
  // No dependency needs its install script (webgpu's only lifts macOS's quarantine, as below), and npm 11 and 12 ask
  // for approval of each.
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

// ---- Build ----

/** Paths of all files below a folder, relative to the checkout, sorted, with forward slashes. */
function listFiles(folder) {
  let entries;
  try {
    entries = fs.readdirSync(path.join(root, folder), { withFileTypes: true });
  } catch {
    return [];
  }
  return entries
    .flatMap((entry) => {
      const name = `${folder}/${entry.name}`;
      return entry.isDirectory() ? listFiles(name) : [name];
    })
    .sort();
}

const listSources = () =>
  sourceFolders
    .flatMap(listFiles)
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .filter((name) => !browserFolders.some((folder) => name.startsWith(folder)));
const stampFile = path.join(root, 'dist', '.setup-stamp');

/** Contents, not times: a checkout of another commit and back again builds nothing. */
function hashSources() {
  const hash = crypto.createHash('sha256');
  for (const name of [
    ...buildInputs.filter((name) => fs.existsSync(path.join(root, name))),
    ...sourceFolders.flatMap(listFiles),
  ]) {
    const content = fs.readFileSync(path.join(root, name));
    hash.update(`${name} ${content.length}\n`).update(content);
  }
  return hash.digest('hex');
}

function built() {
  if (!fs.existsSync(stampFile) || fs.readFileSync(stampFile, 'utf8') !== hashSources()) return false;
  return listSources().every((name) => fs.existsSync(path.join(root, 'dist', name.replace(/\.ts$/, '.js'))));
}

async function build() {
  say('building (tsc and esbuild, into dist/)');
  const hash = hashSources();
  fs.rmSync(stampFile, { force: true });
  const args = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'];
  if (process.stderr.isTTY) args.push('--pretty');
  const result = await run(process.execPath, args);
  if (result.code !== 0) throw new Stop(`the build failed:\n${result.output.trim()}`);
  if (fs.existsSync(path.join(root, bundler))) {
    const bundled = await run(process.execPath, [bundler]);
    if (bundled.code !== 0) throw new Stop(`bundling the page failed:\n${bundled.output.trim()}`);
  }
  const sources = new Set(listSources());
  for (const name of [...sourceFolders, 'test'].flatMap((folder) => listFiles(`dist/${folder}`))) {
    const source = name.slice('dist/'.length).replace(/\.js(\.map)?$/, '.ts');
    if (!sources.has(source)) fs.rmSync(path.join(root, name));
  }
  fs.writeFileSync(stampFile, hash);
}

// ---- Adapter ----

const adapterProbe = `
import fs from 'node:fs';
const answer = (value) => { fs.writeSync(1, JSON.stringify(value)); process.exit(0); };
let create;
try { ({ create } = await import('webgpu')); } catch (error) { answer({ unloadable: error.message }); }
const gpu = create([]);
const adapter = await gpu.requestAdapter();
answer({ adapter: adapter && (adapter.info.device || adapter.info.description || adapter.info.vendor || 'unnamed') });
`;

/**
 * Asks Dawn for an adapter in a process of its own, because a broken driver may take its process down.
 * @returns `adapter`: its name, or undefined; `unloadable`: why the webgpu package does not load; `said`: what Dawn said.
 */
async function findAdapter(env = childEnvironment) {
  const result = await run(process.execPath, ['--input-type=module', '-e', adapterProbe], {
    env,
    timeoutMs: adapterTimeoutMs,
  });
  try {
    const { adapter, unloadable } = JSON.parse(result.stdout);
    return { adapter: adapter || undefined, unloadable, said: result.stderr.trim() };
  } catch {
    return { said: result.output.trim() };
  }
}

/** The last resort's message: everything that tells a reader what the loader saw. */
function describeFailure(found) {
  const folders = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d'];
  const drivers = folders.flatMap((folder) =>
    fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => `${folder}/${name}`) : [],
  );
  const set = driverVariables.filter((name) => process.env[name] !== undefined);
  return [
    ...(process.platform === 'linux' ? [`Vulkan drivers on this machine: ${drivers.join(', ') || 'none'}`] : []),
    ...set.map((name) => `${name} is set to '${process.env[name]}': no other driver is looked at`),
    ...(found.said ? [`Dawn says: ${found.said}`] : []),
  ].join('\n');
}

async function ensureAdapter() {
  let found = await findAdapter();
  if (found.adapter !== undefined) return;
  if (found.unloadable !== undefined) {
    throw new Stop(
      `the webgpu package does not load here (it has binaries for macOS, for Windows and for Linux with glibc, ` +
        `x64 and arm64): ${found.unloadable}`,
    );
  }
  const variables = driverVariables.filter((name) => process.env[name] !== undefined);
  if (variables.length > 0) {
    const env = { ...childEnvironment };
    for (const name of variables) delete env[name];
    const other = await findAdapter(env);
    if (other.adapter !== undefined) {
      const values = variables.map((name) => `${name}=${process.env[name]}`).join(' ');
      throw new Stop(
        `no usable WebGPU adapter: ${values} hides '${other.adapter}', which works; unset it, then try again`,
      );
    }
  }
  if (process.platform !== 'linux') {
    throw new Stop(`no usable WebGPU adapter: update the graphics driver\n${describeFailure(found)}`);
  }
  try {
    await installDriver();
  } catch (error) {
    throw error instanceof Stop ? new Stop(`${error.message}\n${describeFailure(found)}`) : error;
  }
  found = await findAdapter();
  if (found.adapter === undefined) {
    throw new Stop(`the driver is installed, and still there is no usable WebGPU adapter\n${describeFailure(found)}`);
  }
  say(`the adapter is ${found.adapter}`);
}

// ---- Mesa's software driver, with apt ----

/** `KEY=value` lines, values possibly quoted. */
export function parseOsRelease(text) {
  const entries = text.split('\n').map((line) => /^([A-Z_]+)=(["']?)(.*)\2\s*$/.exec(line));
  return Object.fromEntries(entries.filter((match) => match !== null).map((match) => [match[1], match[3]]));
}

const words = (text) => text.split(/\s+/).filter((word) => word !== '');

/**
 * apt's sources in deb822 format (sources.list(5)).
 * @returns stanzas `{ uris, suites, components, options }` of enabled binary archives; `options` are all other fields
 *   as they stand, so that keys and trust are those that apt is configured with.
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

/** apt's sources in the one-line format, as the same stanzas. */
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

function readSources(etc) {
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
 * The part of apt's sources that the driver comes from: the release's own suites, and its backports at the same mirror
 * with the same keys. Sources of third parties stay out: they have no say here, and a broken one must not stop set-up.
 * @returns `{ release, backports }`, stanzas; both empty where no mirror of the release is configured.
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

/** The upstream major version of a Debian version such as `1:25.0.7-2~bpo12+1`; 0 for none. */
export function majorVersion(version) {
  const match = /^(?:\d+:)?(\d+)/.exec(version || '');
  return match === null ? 0 : Number(match[1]);
}

/** From where to install, given the versions on offer: the release itself if it is new enough. */
export function chooseSuite(ownVersion, backportsVersion) {
  if (majorVersion(ownVersion) >= oldestMesa) return 'release';
  return majorVersion(backportsVersion) >= oldestMesa ? 'backports' : undefined;
}

/**
 * The commands that give this distribution a software driver, for a user to type.
 * @param release os-release's fields
 * @param ownVersion the driver's version in the release's own suites, '' if apt has no lists to tell
 */
export function manualCommands({ release, stanzas, ownVersion, sudo }) {
  const family = words(`${release.ID || ''} ${release.ID_LIKE || ''}`);
  const prefix = sudo ? 'sudo ' : '';
  if (family.includes('debian') || family.includes('ubuntu')) {
    const install = `${prefix}apt-get install --no-install-recommends`;
    const known = majorVersion(ownVersion);
    // Debian 12 is the last Debian whose own Mesa is too old.
    const tooOld = known > 0 ? known < oldestMesa : release.ID === 'debian' && Number(release.VERSION_ID) < 13;
    const [backports] = releaseSources(stanzas, codenameOf(release)).backports;
    if (!tooOld || backports === undefined) {
      return [`${prefix}apt-get update`, `${install} ${driverPackages.join(' ')}`];
    }
    const suite = backports.suites[0];
    const key = backports.options.find(([name, value]) => name.toLowerCase() === 'signed-by' && value.startsWith('/'));
    const options = key === undefined ? '' : `[signed-by=${key[1]}] `;
    const line = `deb ${options}${backports.uris[0]} ${suite} main`;
    const configured = stanzas.some((stanza) => stanza.suites.includes(suite));
    return [
      ...(configured ? [] : [`echo '${line}' | ${prefix}tee /etc/apt/sources.list.d/${suite}.list`]),
      `${prefix}apt-get update`,
      `${install} -t ${suite} ${driverPackages.join(' ')}`,
    ];
  }
  if (family.includes('fedora') || family.includes('rhel')) {
    return [`${prefix}dnf install mesa-vulkan-drivers vulkan-loader`];
  }
  if (family.includes('arch')) return [`${prefix}pacman -S vulkan-swrast vulkan-icd-loader`];
  if (family.includes('suse') || family.includes('opensuse')) {
    return [`${prefix}zypper install libvulkan_lvp libvulkan1`];
  }
  return [];
}

/** Derivatives name the release that they are built on beside their own. */
function codenameOf(release) {
  return release.UBUNTU_CODENAME || release.DEBIAN_CODENAME || release.VERSION_CODENAME || '';
}

async function candidateVersion(aptOptions) {
  const { stdout } = await run('apt-cache', [...aptOptions, 'policy', driverPackages[0]], {
    env: { ...childEnvironment, LC_ALL: 'C' },
  });
  const match = /^\s*Candidate:\s*(\S+)/m.exec(stdout);
  return match === null || match[1] === '(none)' ? '' : match[1];
}

/**
 * A temporary folder in which apt keeps all that it fetches, and a configuration that says so: the machine's own
 * sources, package lists and cache stay as they are, whatever happens.
 */
function createAptFolder() {
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

async function apt(...args) {
  const env = { ...childEnvironment, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const result = await run('apt-get', args, { env });
  if (result.code !== 0) throw new Stop(`apt-get ${args.join(' ')} failed:\n${result.output.trim()}`);
}

/**
 * Installs Mesa's software Vulkan driver as root with apt, else throws the commands for a user to type.
 * @param etc where the system's configuration lies; another folder only in tests
 */
export async function installDriver(etc = '/etc') {
  const releaseFile = path.join(etc, 'os-release');
  const release = fs.existsSync(releaseFile) ? parseOsRelease(fs.readFileSync(releaseFile, 'utf8')) : {};
  const stanzas = readSources(etc);
  const isRoot = (await run('id', ['-u'])).stdout.trim() === '0';
  const hasApt = (await run('apt-get', ['--version'])).code === 0;
  const { release: own, backports } = releaseSources(stanzas, codenameOf(release));

  if (!isRoot || !hasApt || own.length === 0) {
    const ownVersion = hasApt ? await candidateVersion([]) : '';
    const commands = manualCommands({ release, stanzas, ownVersion, sudo: !isRoot });
    const how =
      commands.length > 0
        ? `install Mesa's software Vulkan driver:\n${commands.map((line) => `  ${line}`).join('\n')}`
        : `install Mesa's software Vulkan driver (lavapipe), version ${oldestMesa} or newer, with your package manager`;
    throw new Stop(`no usable WebGPU adapter. Without a GPU of your own that has a Vulkan driver, ${how}`);
  }

  const folder = createAptFolder();
  const options = ['-c', path.join(folder, 'apt.conf')];
  const use = (list) => fs.writeFileSync(path.join(folder, 'lantrain.sources'), writeDeb822(list));
  const name = own[0].suites[0];
  say(`no usable WebGPU adapter: looking for Mesa's software Vulkan driver in ${name} (apt-get update)`);
  use(own);
  await apt(...options, 'update');
  const ownVersion = await candidateVersion(options);
  let version = ownVersion;
  let target = [];
  if (chooseSuite(ownVersion, '') === undefined) {
    const suite = backports[0].suites[0];
    say(`${name} has ${ownVersion || 'none'}, ${oldestMesa} or newer is needed: looking in ${suite}`);
    use([...own, ...backports]);
    await apt(...options, 'update');
    target = ['-t', suite];
    version = await candidateVersion([...options, '-o', `APT::Default-Release=${suite}`]);
    if (chooseSuite(ownVersion, version) === undefined) {
      throw new Stop(
        `neither ${name} nor ${suite} has Mesa ${oldestMesa} or newer (found: ${version || 'none'}): use a newer ` +
          'release of this distribution, or a GPU with its own Vulkan driver',
      );
    }
  }
  say(`installing ${driverPackages.join(' and ')}, ${version}, with what they depend on (apt-get install)`);
  // --no-remove: a machine's other packages may be upgraded with the driver's libraries, but never taken away.
  const flags = ['install', '--yes', '--no-remove', '--no-install-recommends', ...target];
  await apt(...options, ...flags, ...driverPackages);
}

// ---- The order of things ----

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Runs `work` while no other set-up of this checkout is at work. The holder renews the lock's time, so that one left by
 * a process that died is known by its age, on whatever machine or container it was.
 */
async function withLock(work) {
  const lock = path.join(root, 'dist', '.setup-lock');
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  for (let waited = false; ; waited = true) {
    try {
      fs.writeFileSync(lock, '', { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!waited) say('another set-up is at work in this folder: waiting for it');
    try {
      if (Date.now() - fs.statSync(lock).mtimeMs > lockStaleMs) fs.rmSync(lock, { force: true });
    } catch {
      // Its holder has just let go of it.
    }
    await sleep(200);
  }
  const release = () => fs.rmSync(lock, { force: true });
  cleanups.add(release);
  const beat = setInterval(() => {
    try {
      fs.utimesSync(lock, new Date(), new Date());
    } catch {
      // Somebody removed dist/: the work itself will tell whether that matters.
    }
  }, lockBeatMs);
  try {
    await work();
  } finally {
    clearInterval(beat);
    cleanups.delete(release);
    release();
  }
}

async function main(args) {
  await ensureBuilt();
  if (!args.includes('--build')) await ensureAdapter();
}

/** @returns whether there was something to do. */
async function ensureBuilt() {
  const refusal = refuseNode(process.versions.node);
  if (refusal !== undefined) throw new Stop(refusal);
  if (dependenciesInstalled() && built()) return false;
  await withLock(async () => {
    if (!dependenciesInstalled()) await installDependencies();
    if (!built()) await build();
  });
  return true;
}

/**
 * For `launch.mjs`, which is lantrain itself afterwards: what it needs to run, in this process. Ends the process with one
 * message where that cannot be had.
 * @param needsAdapter whether a missing adapter is an end; else it is looked for only after other work, and lacked with
 *   a message: not every command needs one
 */
export async function prepare(needsAdapter) {
  const stopped = { SIGINT: () => stopAt(130), SIGTERM: () => stopAt(143) };
  for (const [signal, stop] of Object.entries(stopped)) process.on(signal, stop);
  process.on('exit', cleanUp);
  try {
    // What only development needs may be left out of an installation that is built.
    const isReady = dependenciesInstalled(true) && built();
    const worked = isReady ? false : await ensureBuilt();
    if (needsAdapter) await ensureAdapter();
    else if (worked) await ensureAdapter().catch(tell);
  } catch (error) {
    tell(error);
    process.exit(1);
  }
  for (const [signal, stop] of Object.entries(stopped)) process.removeListener(signal, stop);
  process.removeListener('exit', cleanUp);
}

function tell(error) {
  const expected = error instanceof Stop || typeof error.code === 'string';
  say(expected ? error.message : error.stack);
}

function cleanUp() {
  for (const cleanup of cleanups) cleanup();
}

/** npm and apt put things in order before they end; the lock is kept until they have, unless asked twice. */
function stopAt(code) {
  if (exitCode !== undefined || children.size === 0) process.exit(code);
  exitCode = code;
  for (const child of children) child.kill();
}

if (process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === file) {
  process.on('exit', cleanUp);
  process.on('SIGINT', () => stopAt(130));
  process.on('SIGTERM', () => stopAt(143));
  main(process.argv.slice(2)).catch((error) => {
    tell(error);
    process.exit(1);
  });
}
