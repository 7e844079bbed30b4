import { existsSync, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { type ShellSurroundings, shellOf, shellQuote } from '../util/shell.js';
import { packageRoot } from './shaders.js';

export { shellOf, shellQuote };

/** What is known of how this process was started. */
export interface Started {
  /** As Node gives it: the executable, the script, its arguments. */
  readonly argv: readonly string[];
  /** Options of Node itself. */
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Undefined where the folder is gone. */
  readonly cwd: string | undefined;
  readonly platform: NodeJS.Platform;
  /** The folder of this lantrain's package. */
  readonly root: string;
  /** Whether the script is a program of somebody else's, which uses lantrain as a library. */
  readonly isLibrary: boolean;
  /** The real path of what the shell starts for a name; undefined where there is nothing. */
  which(name: string): string | undefined;
}

const OWN: Started = {
  argv: process.argv,
  execArgv: process.execArgv,
  env: process.env,
  get cwd() {
    try {
      return process.cwd();
    } catch {
      return undefined;
    }
  },
  platform: process.platform,
  get root() {
    return packageRoot();
  },
  get isLibrary() {
    return !isOwnScript(process.argv[1]);
  },
  which: (name) => {
    const file = process.platform === 'win32' ? `${name}.exe` : name;
    for (const folder of (process.env.PATH ?? '').split(delimiter))
      if (folder !== '' && existsSync(join(folder, file))) return realpathSync(join(folder, file));
    return undefined;
  },
};

/** Whether Node was started with a file of this package, by whatever link. */
function isOwnScript(script: string | undefined): boolean {
  if (script === undefined) return false;
  try {
    const way = relative(packageRoot(), realpathSync(script));
    return way.startsWith(join('dist', 'src', sep)) || way.startsWith(`scripts${sep}`);
  } catch {
    // Node runs no file that is not there, except for `-e` and the like: then the first argument stands in its place.
    return false;
  }
}

/**
 * A command line of lantrain that can be pasted as it stands, where this process was started: `words` follow the
 * program's name, each quoted for the shell if it has to be.
 */
export function pasteable(words: readonly string[], started: Started = OWN): string {
  const shell = shellOf(started);
  const [name, ...rest] = [...program(started), ...words].map((word) => shellQuote(word, shell));
  // To PowerShell a quoted first word is a text, not a program.
  return [...(shell === 'powershell' && /^["']/.test(name) ? ['&'] : []), name, ...rest].join(' ');
}

/**
 * The same for another machine. There it is the package that npm finds by its name, or a checkout, as it is here. Where
 * lantrain lies here says nothing of that machine, and `npx` in a checkout that is fresh would ask the registry.
 */
export function pasteableElsewhere(words: readonly string[], started: Started = OWN): string {
  const checkout = program(started)[0] === 'lantrain' ? ['lantrain'] : ['npm', 'run', '-s', 'lantrain', '--'];
  const own = isInstalled(started) ? NPX : checkout;
  return [...own, ...words].map((word) => shellQuote(word, shellOf(started))).join(' ');
}

/** `command` with an environment variable, to be pasted: no list of processes shows it to others, as arguments are. */
export function withVariable(name: string, value: string, command: string, started: ShellSurroundings = OWN): string {
  const shell = shellOf(started);
  // A bare word would be a command there.
  if (shell === 'powershell') return `$env:${name}='${value.replaceAll("'", "''")}'; ${command}`;
  if (shell === 'cmd') return `set "${name}=${value}"&& ${command}`;
  return `${name}=${shellQuote(value, shell)} ${command}`;
}

/** What sets a checkout up, to be pasted; undefined where this is no checkout. */
export function setupCommand(started: Started = OWN): string | undefined {
  const file = join(packageRoot(), 'scripts', 'setup', 'setup.mjs');
  if (!existsSync(file)) return undefined;
  return ['node', shorter(file, started.cwd)].map((word) => shellQuote(word, shellOf(started))).join(' ');
}

const NPX = ['npx', 'lantrain'];

/** Whether this lantrain is a package that npm has installed, and no checkout. */
function isInstalled({ root }: Started): boolean {
  return basename(dirname(root)) === 'node_modules';
}

/** How this lantrain was started: as a library, by npm's script, by npx, by its name on the PATH, or by node and the file. */
function program(started: Started): string[] {
  const { argv, execArgv, env, cwd, isLibrary, root, which } = started;
  if (isLibrary) return isInstalled(started) ? NPX : [...npmRun(root, cwd), 'lantrain', '--'];
  const script = argv[1] ?? 'lantrain';
  // A script of this package runs in its folder, wherever npm was called. What such a script starts in another folder,
  // a test say, has npm's variables too, but no relative path would mean the same to npm.
  const npmRoot = env.npm_package_json === undefined ? undefined : dirname(env.npm_package_json);
  const isScript = env.npm_lifecycle_event !== undefined && env.npm_command !== 'exec';
  if (isScript && env.npm_package_name === 'lantrain' && npmRoot !== undefined && cwd === npmRoot)
    return [...npmRun(npmRoot, env.INIT_CWD ?? npmRoot), 'lantrain', '--'];
  const folder = commandFolder(started);
  if (folder !== undefined) {
    const isLocal = basename(folder) === '.bin' && basename(dirname(folder)) === 'node_modules';
    // npx keeps what is not of the project at hand in folders of its own, and would not find it again by its name.
    const isOfProject = !folder.includes('_npx') || env.npm_package_name === 'lantrain';
    if (isLocal && isOfProject && env.npm_lifecycle_event !== undefined) return NPX;
    if (isOnPath(folder, started) && !isLocal) return ['lantrain'];
    if (basename(script) === 'lantrain') return [shorter(script, cwd)];
  }
  const node = which('node') === argv[0] ? 'node' : argv[0];
  return [node, ...execArgv, shorter(script, cwd)];
}

/** npm that runs a script of the package in `root`, to be typed in `from`. */
function npmRun(root: string, from: string | undefined): string[] {
  const way = from === undefined ? '..' : relative(root, from);
  const isInside = !way.startsWith('..') && !isAbsolute(way);
  return ['npm', ...(isInside ? [] : ['--prefix', root]), 'run', '-s'];
}

/**
 * The folder of the command `lantrain` that was typed, if one was. npm's commands on Windows start the file itself: there
 * it is the folder where npm puts the command of an installed package, of all users or of a project.
 */
function commandFolder(started: Started): string | undefined {
  const { argv, platform, root } = started;
  const script = argv[1] ?? 'lantrain';
  if (basename(script) === 'lantrain') return dirname(script);
  if (platform !== 'win32' || !isInstalled(started)) return undefined;
  const ofAll = dirname(dirname(root));
  return isOnPath(ofAll, started) ? ofAll : join(dirname(root), '.bin');
}

function isOnPath(folder: string, { env }: Started): boolean {
  return (env.PATH ?? '').split(delimiter).some((path) => path !== '' && resolve(path) === folder);
}

/** A path below `cwd` relative to it, and never taken for an option or looked for on the PATH. */
function shorter(path: string, cwd: string | undefined): string {
  if (cwd === undefined) return path;
  const fromHere = relative(cwd, path);
  if (fromHere === '' || fromHere.startsWith('..') || isAbsolute(fromHere)) return path;
  return fromHere.startsWith('-') || basename(fromHere) === fromHere ? `.${sep}${fromHere}` : fromHere;
}
