import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { composeShader } from '../../src/gpu/kernel.js';
import { loadShaders } from '../../src/node/shaders.js';

const shaders = loadShaders();
const names = Object.keys(shaders);

/** `number variable` of every binding in a text. */
function bindingsIn(text: string): string[] {
  return [...text.matchAll(/@binding\((\d+)\)\s*var<[^>]*>\s*(\w+)/g)].map(([, number, name]) => `${number} ${name}`);
}

const inOrder = (bindings: readonly string[]) =>
  bindings.toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));

test('The table of binding numbers in docs/kernels.md is that of the shaders', () => {
  const page = readFileSync('docs/kernels.md', 'utf8');
  const [, section] = page.split('\n## Binding numbers\n');
  const [table] = section.split('\n## ');
  const rows = [...table.matchAll(/^\| `(\w[\w-]*)` \| (.*) \|$/gm)];
  const said = rows.map(([, name, bindings]) => [name, bindings.replaceAll('`', '').split(', ')]);
  const declared = names.map((name) => [name, inOrder(bindingsIn(shaders[name]))] as const);
  expect(said.length).toBeGreaterThan(20);
  expect(Object.fromEntries(said)).toEqual(Object.fromEntries(declared.filter(([, bindings]) => bindings.length > 0)));
});

test('No binding number is taken twice in a shader and what it imports', () => {
  for (const name of names) {
    const defines = [...shaders[name].matchAll(/\/\/! (\w+):/g)].map(([, name]) => name);
    for (const chosen of [[], ...defines.map((name) => [name]), ['vec4'], ['scaled'], ['vec4', 'scaled']]) {
      const numbers = bindingsIn(composeShader(shaders, name, chosen)).map((binding) => Number.parseInt(binding, 10));
      expect(numbers.length, `${name} ${chosen.join(' ')}`).toBe(new Set(numbers).size);
    }
  }
});
