import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { createProgram } from '../../src/cli/program.js';

const ROOT = resolve(import.meta.dirname, '../..');

function sources(): { readonly name: string; readonly text: string }[] {
  return ['src', 'cluster'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|mjs|html)$/.test(name))
      .map((name) => ({ name: join(folder, name), text: readFileSync(join(ROOT, folder, name), 'utf8') })),
  );
}

/** Comments may name commands in any form. */
const withoutComments = (text: string) =>
  text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '')
    .replace(/<!--[\s\S]*?-->/g, '');

test('no text has a command line of its own making: pasteable() knows how this lantrain was started', () => {
  const names = createProgram(() => {}).commands.map((command) => command.name());
  const command = new RegExp(
    `\\bnpm (run|start|test|exec)\\b|\\bnpx \\w|(?<!\\b(?:a|an|no|the) )\\blantrain (${names.join('|')})\\b`,
  );
  const found = sources().flatMap(({ name, text }) =>
    withoutComments(text)
      .split('\n')
      .filter((line) => command.test(line))
      .map((line) => `${name}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

test('what a browser shows sends nobody to the files of a checkout', () => {
  const shown = sources().filter(({ name }) => /^cluster.(tab|dashboard.page)\b|^src.gpu.device/.test(name));
  expect(shown.length).toBeGreaterThan(5);
  for (const { name, text } of shown)
    expect(withoutComments(text), name).not.toMatch(/setup\.mjs|node src\/|a checkout/);
});
