/**
 * In a fresh clone, `node scripts/try-docs.mjs` runs the commands that README.md and docs/ show, word for word, in the
 * order of the pages. It says how each command ended, and why it leaves a command out. The exit code is 1 where one
 * failed.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
const pages = ['README.md', ...docs.map((name) => join('docs', name)), 'CONTRIBUTING.md'];

/** Why a command is not run here. */
const leftOut = [
  [/ (coordinator|worker|view) |--watch|--listen/, 'it waits for somebody'],
  [/--preset (verdict|gpt2)/, 'it takes hours without a GPU'],
  [
    /^npm (test|run (build|check|test:|docs:|chaos|attack|endings|screenshots|frame-time|watch-cost))/,
    'CI runs it, or it is not for users',
  ],
];

/** The text of the reader's own. */
const text = join(root, 'my-text.txt');
const isOurs = !existsSync(text);
if (isOurs) {
  const bytes = Buffer.alloc(300_000);
  const book = openSync(join(root, 'src/data/moby-dick.txt'), 'r');
  readSync(book, bytes);
  closeSync(book);
  // Whole lines of it, so that it is text.
  writeFileSync(text, bytes.subarray(0, bytes.lastIndexOf('\n')));
}

let failures = 0;
const seen = new Set();
try {
  for (const page of pages)
    for (const [, block] of readFileSync(join(root, page), 'utf8').matchAll(/^```\w*\n([\s\S]*?)^```/gm))
      for (const line of block.split('\n').filter((one) => one.startsWith('npm ')))
        run(page, line.split(/ {2,}#/)[0].trim());
} finally {
  if (isOurs) rmSync(text);
}
process.exit(failures > 0 ? 1 : 0);

function run(page, command) {
  if (seen.has(command)) return;
  seen.add(command);
  const [, why] = leftOut.find(([pattern]) => pattern.test(`${command} `)) ?? [];
  if (why !== undefined) return console.log(`left out      ${page}: ${command} (${why})`);
  const began = performance.now();
  const { status, stderr } = spawnSync(command, { cwd: root, shell: true, encoding: 'utf8', maxBuffer: 2 ** 28 });
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${String(seconds).padStart(4)} s ${page}: ${command}`);
  if (status === 0) return;
  failures++;
  console.log(stderr.trimEnd().replace(/^/gm, '    '));
}
