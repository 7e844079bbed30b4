import { existsSync, readdirSync } from 'node:fs';
import { openModel, writeModel } from '../checkpoint/huggingface.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { newestCheckpoint } from './generate.js';

/** Writes a run's newest weights as a Hugging Face GPT-2 folder. */
export async function exportModel(command: { readonly run: string; readonly out: string }): Promise<number> {
  const run = await RunDirectory.open(command.run, 'read');
  if (existsSync(command.out) && readdirSync(command.out).length > 0)
    throw new LantrainError('LT_RUN_EXISTS', `${command.out} exists and is not empty; choose another --out`);
  const from = await newestCheckpoint(run);
  const model = await openModel(from);
  try {
    await writeModel(command.out, model.config, (name) => model.read(name));
  } finally {
    model.close();
  }
  process.stdout.write(`wrote the weights of ${from} to ${command.out}\n`);
  return 0;
}
