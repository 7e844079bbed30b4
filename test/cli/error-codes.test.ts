import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ERROR_CODES } from '../../src/errors.js';

/** The codes in the first column of docs/troubleshooting.md's tables. */
const rows = readFileSync('docs/troubleshooting.md', 'utf8')
  .split('\n')
  .flatMap((line) => /^\| (`LT_[^|]*)\|/.exec(line)?.[1].match(/LT_[A-Z_]+/g) ?? []);

test("docs/troubleshooting.md's tables have every code of a cluster, once, and no other than there are", () => {
  const cluster = [...ERROR_CODES].filter((code) => code.startsWith('LT_CLUSTER_'));
  expect(cluster.length).toBeGreaterThan(20);
  expect(rows.filter((code) => code.startsWith('LT_CLUSTER_')).sort()).toEqual(cluster.sort());
  expect(rows.filter((code) => !ERROR_CODES.has(code))).toEqual([]);
  expect(new Set(rows).size).toBe(rows.length);
});

test('every code that a text names exists, and every code that exists is thrown somewhere', () => {
  const under = (folder: string, pattern: RegExp) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => pattern.test(name))
      .map((name) => `${folder}/${name}`);
  const sources = [...under('src', /\.(ts|mjs)$/), ...under('cluster', /\.(ts|mjs)$/)];
  const codesOf = (files: readonly string[]) =>
    new Set(files.flatMap((file) => readFileSync(file, 'utf8').match(/\bLT_[A-Z_]*[A-Z]\b/g) ?? []));
  const named = codesOf([...sources, 'README.md', ...under('docs', /\.md$/)]);
  expect([...named].filter((code) => !ERROR_CODES.has(code))).toEqual([]);
  const thrown = codesOf(sources.filter((file) => !file.endsWith('src/errors.ts')));
  expect([...ERROR_CODES].filter((code) => !thrown.has(code))).toEqual([]);
});
