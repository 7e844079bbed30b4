import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cliPage, configSchemaText } from '../../src/cli/docs.js';
import { createProgram } from '../../src/cli/program.js';
import { TRAIN_OPTION_NAMES } from '../../src/train/options.js';

const REMAKE = 'npm run docs:cli makes it anew';

test('docs/cli.md is what the commands say of themselves', () => {
  const page = cliPage(createProgram(() => {}));
  expect(readFileSync('docs/cli.md', 'utf8'), REMAKE).toBe(page);
  for (const text of ['## lantrain bench cluster', '| `--lr <rate>` |', '`--stack`']) expect(page).toContain(text);
});

test('docs/config.schema.json describes every option of training', () => {
  const text = configSchemaText();
  expect(readFileSync('docs/config.schema.json', 'utf8'), REMAKE).toBe(text);
  const { properties } = JSON.parse(text);
  for (const name of [...TRAIN_OPTION_NAMES, 'preset', 'listen', 'workers', 'watch'])
    expect(Object.keys(properties)).toContain(name);
  expect(properties.lr).toMatchObject({ type: 'number', exclusiveMinimum: 0, default: 4e-4 });
  expect(properties.schedule.enum).toEqual(['constant', 'cosine']);
  expect(properties.layers).toMatchObject({ type: 'integer', minimum: 1, maximum: 1024 });
});
