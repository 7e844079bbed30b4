import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { docsFiles } from '../../src/cli/docs.js';
import { createProgram } from '../../src/cli/program.js';
import { TRAIN_OPTION_NAMES } from '../../src/train/options.js';

const generated = docsFiles(createProgram(() => {}));
const PAGES = ['README.md', 'CONTRIBUTING.md', ...readdirSync('docs').map((name) => join('docs', name))].filter(
  (path) => path.endsWith('.md'),
);

test.each(Object.keys(generated))('docs/%s is what the commands say of themselves', (name) => {
  expect(readFileSync(join('docs', name), 'utf8'), 'npm run docs:cli makes it anew').toBe(generated[name]);
});

test('the pages of the command line have every command and option', () => {
  for (const text of ['| `--lr <rate>` |', '`--stack <n>`', '## lantrain worker'])
    expect(generated['cli.md']).toContain(text);
  expect(generated['cli-bench.md']).toContain('## lantrain bench cluster');
  expect(generated['presets.md']).toContain('| `weights` |');
});

test('docs/config.schema.json describes every option of training', () => {
  const { properties, type } = JSON.parse(generated['config.schema.json']);
  expect(type).toBe('object');
  for (const name of [...TRAIN_OPTION_NAMES, 'preset', 'listen', 'workers', 'watch'])
    expect(Object.keys(properties)).toContain(name);
  expect(properties.lr).toMatchObject({ type: 'number', exclusiveMinimum: 0, default: 4e-4 });
  expect(properties.schedule.enum).toEqual(['constant', 'cosine']);
  expect(properties.layers).toMatchObject({ type: 'integer', minimum: 1, maximum: 1024 });
});

/** As GitHub makes it of a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-');
}

/** The text of a page without its blocks of code. */
const proseOf = (path: string) => readFileSync(path, 'utf8').replaceAll(/^```[\s\S]*?^```/gm, '');
const anchorsOf = (path: string) =>
  [...proseOf(path).matchAll(/^#+ +(.*)$/gm)].map(([, heading]) => anchorOf(heading.replaceAll(/[`*]/g, '')));

test('every link of README.md, CONTRIBUTING.md and docs/ leads to a file, and to a heading of it', () => {
  const broken: string[] = [];
  let seen = 0;
  for (const page of PAGES)
    for (const [, target] of proseOf(page).matchAll(/(?:\]\(|(?:src|srcset)=")([^)"\s]+)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      seen++;
      const [file, anchor] = target.split('#');
      const path = file === '' ? page : join(dirname(page), file);
      if (!existsSync(path) || (anchor !== undefined && !anchorsOf(path).includes(anchor)))
        broken.push(`${page}: ${target}`);
    }
  expect(broken).toEqual([]);
  expect(seen).toBeGreaterThan(80);
});

test('README.md has 130 lines at most, a page of docs/ 250, and each says whom it is for', () => {
  const linesOf = (path: string) => readFileSync(path, 'utf8').trimEnd().split('\n');
  expect(linesOf('README.md').length).toBeLessThanOrEqual(130);
  for (const page of PAGES.filter((path) => path.startsWith('docs'))) {
    const lines = linesOf(page);
    expect(lines.length, page).toBeLessThanOrEqual(250);
    expect(lines[2], page).toMatch(/^For who(m)?ever |^For (a|the) /);
  }
});
