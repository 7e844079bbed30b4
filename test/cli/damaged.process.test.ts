import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());

test('a run whose newest checkpoint has a changed bit goes on from the one before, to the same digest', async () => {
  const train = (args: readonly string[]) => lantrain(['train', ...args, '--json'], { cwd: folder.path });
  const options = ['--steps', '6', '--checkpoint-every', '3', '--eval-every', '0', '--out', 'run'];
  const whole = await train([...SMALL, ...options]);
  const digest = whole.events.find(({ event }) => event === 'done')?.digest;
  const at = (...names: string[]) => join(folder.path, 'run', ...names);
  expect(readdirSync(at('checkpoints')).sort()).toEqual(['000003', '000006']);
  const weights = at('checkpoints/000006/model.safetensors');
  const bytes = readFileSync(weights);
  bytes[bytes.length - 5] ^= 4;
  writeFileSync(weights, bytes);

  // A resume that is refused changes nothing.
  const refused = await train(['--resume', 'run', '--lr', '0.5']);
  expect(refused.stderr).toMatch(/error LT_RUN_MISMATCH/);
  expect(readdirSync(at('checkpoints')).sort()).toEqual(['000003', '000006']);

  const resumed = await train(['--resume', 'run']);
  expect(resumed.stderr).toMatch(
    /000006 is passed over: .*000006 is damaged: its digest is .*; when the run goes on, it is set aside as 000006\.damaged/,
  );
  expect(resumed.events[0]).toMatchObject({ event: 'step', step: 4 });
  expect(resumed.events.at(-1)).toMatchObject({ event: 'done', digest });
  expect(readdirSync(at('checkpoints')).sort()).toEqual(['000003', '000006', '000006.damaged']);
  const events = readFileSync(at('metrics.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events.filter(({ event }) => event === 'checkpoint').map(({ step }) => step)).toEqual([3, 6]);
});
