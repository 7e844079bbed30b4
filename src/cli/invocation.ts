import { basename, delimiter, dirname, isAbsolute, join, relative, resolve } from 'node:path';

/** What is known of how this process was started. */
export interface Started {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly platform: NodeJS.Platform;
}

const OWN: Started = {
  argv: process.argv,
  env: process.env,
  get cwd() {
    try {
      return process.cwd();
    } catch {
      // It was removed: no path is shorter from there.
      return '/';
    }
  },
  platform: process.platform,
};

/**
 * A command line of lantrain that can be pasted as it stands, where this process was started: `words` follow the
 * program's name, each quoted for the shell if it has to be.
 */
export function pasteable(words: readonly string[], started: Started = OWN): string {
  return [...program(started), ...words].map((word) => shellQuote(word, started.platform)).join(' ');
}

/**
 * The same for another machine, in a checkout there, which may be fresh: where lantrain lies here says nothing of it, and
 * `npx` would ask the registry where there is no checkout.
 */
export function pasteableElsewhere(words: readonly string[], started: Started = OWN): string {
  const byName = program(started)[0] === 'lantrain';
  const own = byName ? ['lantrain'] : ['npm', 'run', '-s', 'lantrain', '--'];
  return [...own, ...words].map((word) => shellQuote(word, started.platform)).join(' ');
}

/** A word as a shell takes it: POSIX shells, and on Windows both cmd.exe and PowerShell. */
export function shellQuote(word: string, platform: NodeJS.Platform = process.platform): string {
  // Inside of a word, # begins no comment.
  if (/^[\w@%+=:,./-][\w@%+=:,./#-]*$/.test(word) && !(platform === 'win32' && word.includes('%'))) return word;
  if (platform === 'win32') return `"${word.replaceAll('"', '\\"')}"`;
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** How this lantrain was started: by npm's script, by npx, by its name on the PATH, or by node and the file. */
function program({ argv, env, cwd }: Started): string[] {
  const script = argv[1] ?? 'lantrain';
  if (env.npm_command === 'exec') return ['npx', 'lantrain'];
  // Scripts run in the package's folder, wherever npm was called; a process that one started in another folder did not.
  if (env.npm_lifecycle_event !== undefined && env.npm_package_name === 'lantrain') {
    const root = env.npm_config_local_prefix ?? dirname(env.npm_package_json ?? join(cwd, 'package.json'));
    const from = env.INIT_CWD ?? root;
    const inside = !relative(root, from).startsWith('..') && !isAbsolute(relative(root, from));
    return ['npm', ...(inside ? [] : ['--prefix', root]), 'run', '-s', 'lantrain', '--'];
  }
  if (basename(script).replace(/\.(cmd|ps1)$/, '') === 'lantrain') {
    const onPath = (env.PATH ?? '').split(delimiter).some((folder) => resolve(folder) === dirname(script));
    return onPath ? ['lantrain'] : [shorter(script, cwd)];
  }
  return ['node', shorter(script, cwd)];
}

function shorter(path: string, cwd: string): string {
  const fromHere = relative(cwd, path);
  return fromHere.startsWith('..') || isAbsolute(fromHere) ? path : fromHere;
}
