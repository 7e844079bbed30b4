import { existsSync, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { type ShellSurroundings, shellOf, shellQuote } from '../util/shell.js';
import { packageRoot } from './shaders.js';

export { shellOf, shellQuote };

/** How this process was started. */
export interface Started {
  /** Node's `process.argv`: the executable, the script, its arguments. */
  readonly argv: readonly string[];
  /** Options of Node. */
  readonly execArgv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The current folder; undefined where it was removed. */
  readonly cwd: string | undefined;
  readonly platform: NodeJS.Platform;
  /** The folder of this package. */
  readonly root: string;
  /** Whether the script is another program that uses lantrain as a library. */
  readonly isLibrary: boolean;
  /** The real path of the program that the shell starts for a name; undefined where there is none. */
  which(name: string): string | undefined;
}

const THIS_PROCESS: Started = {
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

/** Whether Node was started with a file of this package, also through a link. */
function isOwnScript(script: string | undefined): boolean {
  if (script === undefined) return false;
  try {
    const way = relative(packageRoot(), realpathSync(script));
    return way.startsWith(join('dist', 'src', sep)) || way.startsWith(`scripts${sep}`);
  } catch {
    // The file of a started script exists, except for `-e` and similar options: then the first argument is in its
    // place.
    return false;
  }
}

/**
 * A lantrain command line that can be pasted into the shell that started this process. `words` follow the program's
 * name, quoted where needed.
 */
export function pasteable(words: readonly string[], started: Started = THIS_PROCESS): string {
  const shell = shellOf(started);
  const [name, ...rest] = [...program(started), ...words].map((word) => shellQuote(word, shell));
  // PowerShell takes a quoted first word for a text, not for a program.
  return [...(shell === 'powershell' && /^["']/.test(name) ? ['&'] : []), name, ...rest].join(' ');
}

/**
 * As `pasteable`, for another machine, which has the installed package or a checkout as this one has. This machine's
 * path means nothing there, and `npx` in a fresh checkout would ask the registry.
 */
export function pasteableElsewhere(words: readonly string[], started: Started = THIS_PROCESS): string {
  const checkout = program(started)[0] === 'lantrain' ? ['lantrain'] : ['npm', 'run', '-s', 'lantrain', '--'];
  const own = isInstalled(started) ? NPX : checkout;
  return [...own, ...words].map((word) => shellQuote(word, shellOf(started))).join(' ');
}

/**
 * `command` with an environment variable, to be pasted. Unlike arguments, the variable is not shown in lists of
 * processes.
 */
export function withVariable(
  name: string,
  value: string,
  command: string,
  started: ShellSurroundings = THIS_PROCESS,
): string {
  const shell = shellOf(started);
  // A bare word would be a command in PowerShell.
  if (shell === 'powershell') return `$env:${name}='${value.replaceAll("'", "''")}'; ${command}`;
  if (shell === 'cmd') return `set "${name}=${value}"&& ${command}`;
  return `${name}=${shellQuote(value, shell)} ${command}`;
}

/** The command that sets up this checkout, to be pasted; undefined where lantrain is not a checkout. */
export function setupCommand(started: Started = THIS_PROCESS): string | undefined {
  const file = join(packageRoot(), 'scripts', 'setup', 'setup.mjs');
  if (!existsSync(file)) return undefined;
  return ['node', shorter(file, started.cwd)].map((word) => shellQuote(word, shellOf(started))).join(' ');
}

const NPX = ['npx', 'lantrain'];

/** Whether this lantrain is a package installed by npm, not a checkout. */
function isInstalled({ root }: Started): boolean {
  return basename(dirname(root)) === 'node_modules';
}

/** The words that start this lantrain: by npm's script, by npx, by its name on the PATH, or by node and the file. */
function program(started: Started): string[] {
  const { argv, execArgv, env, cwd, isLibrary, root, which } = started;
  if (isLibrary) return isInstalled(started) ? NPX : [...npmRun(root, cwd), 'lantrain', '--'];
  const script = argv[1] ?? 'lantrain';
  // A script of this package runs in the package's folder, wherever npm was called. A program that such a script starts
  // in another folder (a test, for example) has npm's variables too, but relative paths would mean something else to
  // npm.
  const npmRoot = env.npm_package_json === undefined ? undefined : dirname(env.npm_package_json);
  const isScript = env.npm_lifecycle_event !== undefined && env.npm_command !== 'exec';
  if (isScript && env.npm_package_name === 'lantrain' && npmRoot !== undefined && cwd === npmRoot)
    return [...npmRun(npmRoot, env.INIT_CWD ?? npmRoot), 'lantrain', '--'];
  const folder = commandFolder(started);
  if (folder !== undefined) {
    const isLocal = basename(folder) === '.bin' && basename(dirname(folder)) === 'node_modules';
    // npx keeps packages from outside the current project in its own folders, and would not find them again by name.
    const isOfProject = !folder.includes('_npx') || env.npm_package_name === 'lantrain';
    if (isLocal && isOfProject && env.npm_lifecycle_event !== undefined) return NPX;
    if (isOnPath(folder, started) && !isLocal) return ['lantrain'];
    if (basename(script) === 'lantrain') return [shorter(script, cwd)];
  }
  const node = which('node') === argv[0] ? 'node' : argv[0];
  return [node, ...execArgv, shorter(script, cwd)];
}

/** The words that run npm's script of the package in `root`, to be typed in the folder `from`. */
function npmRun(root: string, from: string | undefined): string[] {
  const way = from === undefined ? '..' : relative(root, from);
  const isInside = !way.startsWith('..') && !isAbsolute(way);
  return ['npm', ...(isInside ? [] : ['--prefix', root]), 'run', '-s'];
}

/**
 * The folder of the command `lantrain` that was typed, if any. npm's commands on Windows start the script itself. There
 * it is the folder of an installed package's command: the global one or the project's.
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

/** `path`, relative to `cwd` if it lies below. The result cannot be taken for an option or looked up on the PATH. */
function shorter(path: string, cwd: string | undefined): string {
  if (cwd === undefined) return path;
  const fromHere = relative(cwd, path);
  if (fromHere === '' || fromHere.startsWith('..') || isAbsolute(fromHere)) return path;
  return fromHere.startsWith('-') || basename(fromHere) === fromHere ? `.${sep}${fromHere}` : fromHere;
}
