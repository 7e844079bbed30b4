import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { openModel } from '../../src/checkpoint/huggingface.js';
import { exportModel } from '../../src/run/export-model.js';
import { failure, scratch } from '../checkpoint/helpers.js';
import { RELEASED_RUN, releasedRun } from './released-run.js';

const CHECKPOINT = join(RELEASED_RUN, 'checkpoints', '000005');

test('a folder is written that holds the newest weights, and it is said of which checkpoint they are', async () => {
  const out = join(scratch(), 'deep', 'model');
  expect(await exportModel({ run: RELEASED_RUN, out })).toEqual({
    out,
    checkpoint: CHECKPOINT,
    step: 5,
    digest: '17386df7032811113cf7cf906dd6373b551611c1067d1e6a643374e712925532',
  });
  expect(readdirSync(out).sort()).toEqual(['config.json', 'model.safetensors']);
  const [written, kept] = [await openModel(out), await openModel(CHECKPOINT)];
  expect(written.config).toEqual(kept.config);
  for (const name of ['wte.weight', 'h.1.mlp.c_fc.weight', 'ln_f.bias'])
    expect(await written.read(name)).toEqual(await kept.read(name));
  written.close();
  kept.close();
});

test('a damaged checkpoint is passed over with a note, and an error where it is the only one', async () => {
  const run = releasedRun();
  const [newer, out] = [join(run, 'checkpoints', '000006'), join(scratch(), 'model')];
  mkdirSync(newer);
  const events: unknown[] = [];
  const { step } = await exportModel({ run, out }, { onEvent: (event) => events.push(event) });
  expect(step).toBe(5);
  expect(events).toEqual([{ event: 'note', text: expect.stringMatching(/000006 is passed over/) }]);
  writeFileSync(join(run, 'checkpoints', '000005', 'model.safetensors'), 'none');
  const other = join(scratch(), 'other');
  await failure('LT_CHECKPOINT_CORRUPT', () => exportModel({ run, out: other }));
  expect(existsSync(other)).toBe(false);
});

test('a folder that holds something is not touched', async () => {
  const out = scratch();
  writeFileSync(join(out, 'config.json'), 'mine');
  await failure('LT_RUN_EXISTS', () => exportModel({ run: RELEASED_RUN, out }));
  expect(readdirSync(out)).toEqual(['config.json']);
});

test('an aborted signal ends an export with the reason of the signal, and nothing is left', async () => {
  const out = join(scratch(), 'deep', 'model');
  const reason = new Error('enough');
  await expect(exportModel({ run: RELEASED_RUN, out }, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  expect(existsSync(dirname(out))).toBe(false);
});
