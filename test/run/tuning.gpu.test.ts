import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { tune } from '../../src/run/tuning.js';

const folder = mkdtempSync(join(tmpdir(), 'lantrain-'));
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});

/** Tunes with a budget of 0, so that nothing is compiled. Returns the notes and whether a contest was held. */
async function tuneIn(cache: string) {
  vi.stubEnv('LANTRAIN_CACHE', cache);
  const notes: string[] = [];
  let contested = false;
  const plan = defaultPlan(gpu.adapter);
  const result = await tune({
    gpu,
    shaders: loadShaders(),
    model: { vocabSize: 97, context: 16, width: 32, layers: 1, heads: 2, tie: true, qkvBias: true },
    shape: { batch: 1, context: 16, dropout: 0 },
    plan,
    anyBits: true,
    budgetMs: 0,
    onProgress: () => {
      contested = true;
    },
    onNote: (line) => void notes.push(line),
  });
  expect(result.plan).toEqual(plan);
  expect(result.tuned.length).toBeGreaterThan(5);
  return { notes, contested };
}

test('tuning remembers what it found: the second time nothing is contested or said', async () => {
  const first = await tuneIn(folder);
  expect(first.contested).toBe(true);
  expect(first.notes).toEqual([
    expect.stringMatching(/^tuning .* kinds of matrix products in .* the time did not reach/),
  ]);
  expect(await tuneIn(folder)).toEqual({ notes: [], contested: false });
});

test.each([
  ['no JSON', '{"contests":'],
  ['of another form', '{"contests": {"NN 1x1x1 store": []}}'],
])('a cache file that is %s is named, ignored and replaced', async (_, text) => {
  await tuneIn(folder);
  const [name] = readdirSync(join(folder, 'tuning'));
  writeFileSync(join(folder, 'tuning', name), text);
  const damaged = await tuneIn(folder);
  expect(damaged.contested).toBe(true);
  expect(damaged.notes[0]).toMatch(/tuning cache .*\.json is damaged and ignored/);
  expect(await tuneIn(folder)).toEqual({ notes: [], contested: false });
});

test('a cache folder that cannot be written is a note', async () => {
  writeFileSync(join(folder, 'file'), '');
  const { notes } = await tuneIn(join(folder, 'file', 'cache'));
  expect(notes.filter((note) => note.startsWith('tuning is not remembered: '))).toHaveLength(1);
});
