import { readdirSync, readFileSync } from 'node:fs';
import { Command } from 'commander';
import { beforeAll, expect, test, vi } from 'vitest';

/** Flags of other programs in lantrain's texts, by file. Each must still occur. */
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  'scripts/setup/setup.mjs': ['--build'],
  // npm's and tsc's.
  'scripts/setup/dependencies.mjs': ['--ignore-scripts', '--include', '--loglevel', '--no-audit', '--no-fund'],
  'scripts/setup/build.mjs': ['--incremental', '--pretty'],
  // apt's.
  'scripts/setup/driver.mjs': ['--no-install-recommends', '--no-remove', '--version', '--yes'],
  'scripts/setup/driver-commands.mjs': ['--no-install-recommends'],
  // Its own.
  'scripts/wire-quality.mjs': ['--table'],
  // Node's.
  'src/node/vulkan.mjs': ['--input-type'],
  'src/node/invocation.ts': ['--prefix'],
  'cluster/tab/words.ts': ['--enable-unsafe-webgpu'],
  'docs/dependencies.md': ['--all', '--ignore-scripts', '--omit', '--parseable'],
  'docs/lan.md': ['--add-port', '--network'],
  'docs/security.md': ['--quick'],
  'docs/benchmarks.md': ['--pairs', '--seconds'],
  // Dashes of the novel.
  'docs/verdict.md': ['--and', '--the'],
};

/** Flags by command, such as `bench train`, including commander's own. */
let flags: ReadonlyMap<string, ReadonlySet<string>>;

beforeAll(async () => {
  // Gets the command line without running it: the replaced `parseAsync` passes the program on and never resolves.
  const program = await new Promise<Command>((built) => {
    vi.spyOn(Command.prototype, 'parseAsync').mockImplementation(function (this: Command) {
      built(this);
      return new Promise(() => {});
    });
    void import('../../src/cli/main.js');
  });
  const found = new Map<string, Set<string>>();
  const visit = (command: Command, path: readonly string[]) => {
    const own = command.options.flatMap(({ long, short }) => [long, short]).filter((flag) => flag != null);
    found.set(path.join(' '), new Set([...own, '--help', '-h']));
    for (const child of command.commands) visit(child, [...path, child.name()]);
  };
  visit(program, []);
  flags = found;
});

function filesOf(folder: string, pattern: RegExp): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`);
}

const SOURCES = ['src', 'cluster', 'scripts'].flatMap((folder) => filesOf(folder, /\.(ts|mjs|html)$/));
const TEXTS = ['README.md', ...filesOf('docs', /\.md$/)];

/** A flag; not a decrement, an arrow in a drawing or a part of a longer word. */
const FLAG = /(?<![\w$-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w.-]*-|\.[\w#]|\w)/g;

/** The flags in a text, without custom properties of style sheets. */
function flagsOf(text: string): string[] {
  const isStyled = /var\(--/.test(text);
  const plain = text.replace(/var\(--[\w-]+|setProperty\('--[\w-]+/g, '');
  return (isStyled ? plain.replace(/--[\w-]+(?=:)/g, '') : plain).match(FLAG) ?? [];
}

/** The page's colours, which its scripts name. */
const STYLES = new Set(readFileSync('src/watch/page/page.css', 'utf8').match(/--[\w-]+(?=:)/g));

test('every flag that a source, README.md or docs/ names is an option of lantrain', () => {
  const known = new Set([...flags.values()].flatMap((own) => [...own]));
  expect(known).toContain('--plain');
  const wrong: string[] = [];
  const unused: string[] = [];
  let seen = 0;
  for (const file of [...SOURCES, ...TEXTS]) {
    const named = new Set(flagsOf(readFileSync(file, 'utf8')));
    seen += named.size;
    const others = OTHERS[file] ?? [];
    const isPage = file.startsWith('src/watch/page/');
    for (const flag of named)
      if (!known.has(flag) && !others.includes(flag) && !(isPage && STYLES.has(flag))) wrong.push(`${file}: ${flag}`);
    for (const flag of others) if (!named.has(flag)) unused.push(`${file}: ${flag}`);
  }
  expect(wrong).toEqual([]);
  expect(unused, 'of other programs, and named no more').toEqual([]);
  expect(seen).toBeGreaterThan(200);
});

test('flags are found in text, and nothing that only looks like one', () => {
  expect(flagsOf('use wss:// or --allow-plain, not `--tie/--no-tie`; ["--eps", 1] (--exact).')).toEqual([
    '--allow-plain',
    '--tie',
    '--no-tie',
    '--eps',
    '--exact',
  ]);
  expect(flagsOf('if (--this.#n === 0) go(); --take--> a---b x--y')).toEqual([]);
  expect(flagsOf('color: var(--ink); --ink: red; e.style.setProperty(\'--part\', 1); "--plain"')).toEqual(['--plain']);
});

test('every command line that README.md and docs/ show is one: the command is there, and its flags are its own', () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const file of TEXTS) {
    const lines = readFileSync(file, 'utf8').replaceAll('\\\n', ' ');
    for (const [, line] of lines.matchAll(/npm run -s lantrain -- ([^\n`]+)/g)) {
      const words = line
        .replace(/\s#\s.*/, '')
        .trim()
        .split(/\s+/);
      const two = words.slice(0, 2).join(' ');
      const own = flags.get(flags.has(two) ? two : words[0]);
      seen++;
      if (own === undefined) wrong.push(`${file}: lantrain ${line}`);
      else for (const flag of flagsOf(line)) if (!own.has(flag)) wrong.push(`${file}: ${flag} of lantrain ${words[0]}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(seen).toBeGreaterThan(15);
});
