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
  which: (name) => {
    const file = process.platform === 'win32' ? `${name}.exe` : name;
    for (const folder of (process.env.PATH ?? '').split(delimiter))
      if (folder !== '' && existsSync(join(folder, file))) return realpathSync(join(folder, file));
    return undefined;
  },
};

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
 * The same for another machine, in a checkout there, which may be fresh: where lantrain lies here says nothing of it, and
 * `npx` would ask the registry where there is no checkout.
 */
export function pasteableElsewhere(words: readonly string[], started: Started = OWN): string {
  const own = program(started)[0] === 'lantrain' ? ['lantrain'] : ['npm', 'run', '-s', 'lantrain', '--'];
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

/** How this lantrain was started: by npm's script, by npx, by its name on the PATH, or by node and the file. */
function program(started: Started): string[] {
  const { argv, execArgv, env, cwd, which } = started;
  const script = argv[1] ?? 'lantrain';
  // A script of this package runs in its folder, wherever npm was called. What such a script starts in another folder,
  // a test say, has npm's variables too, but no relative path would mean the same to npm.
  const root = env.npm_package_json === undefined ? undefined : dirname(env.npm_package_json);
  const isScript = env.npm_lifecycle_event !== undefined && env.npm_command !== 'exec';
  if (isScript && env.npm_package_name === 'lantrain' && root !== undefined && cwd === root) {
    const way = relative(root, env.INIT_CWD ?? root);
    const isInside = !way.startsWith('..') && !isAbsolute(way);
    return ['npm', ...(isInside ? [] : ['--prefix', root]), 'run', '-s', 'lantrain', '--'];
  }
  if (basename(script) === 'lantrain') {
    const folder = dirname(script);
    const isLocal = basename(folder) === '.bin' && basename(dirname(folder)) === 'node_modules';
    // npx keeps what is not of the project at hand in folders of its own, and would not find it again by its name.
    const isOfProject = !folder.includes('_npx') || env.npm_package_name === 'lantrain';
    if (isLocal && isOfProject && env.npm_lifecycle_event !== undefined) return ['npx', 'lantrain'];
    const isOnPath = (env.PATH ?? '').split(delimiter).some((path) => path !== '' && resolve(path) === folder);
    return isOnPath && !isLocal ? ['lantrain'] : [shorter(script, cwd)];
  }
  const node = which('node') === argv[0] ? 'node' : argv[0];
  return [node, ...execArgv, shorter(script, cwd)];
}

/** A path below `cwd` relative to it, and never taken for an option or looked for on the PATH. */
function shorter(path: string, cwd: string | undefined): string {
  if (cwd === undefined) return path;
  const fromHere = relative(cwd, path);
  if (fromHere === '' || fromHere.startsWith('..') || isAbsolute(fromHere)) return path;
  return fromHere.startsWith('-') || basename(fromHere) === fromHere ? `.${sep}${fromHere}` : fromHere;
}
