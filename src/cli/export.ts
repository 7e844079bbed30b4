import { existsSync, readdirSync, statSync } from 'node:fs';
import { openModel, writeModel } from '../checkpoint/huggingface.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { newestCheckpoint } from './generate.js';

/** Writes a run's newest weights as a Hugging Face GPT-2 folder. */
export async function exportModel(command: { readonly run: string; readonly out: string }): Promise<number> {
  const run = await RunDirectory.open(command.run, 'read');
  checkFree(command.out);
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

/** Throws LT_RUN_EXISTS where something is at `path` already that is no empty folder. */
function checkFree(path: string): void {
  if (!existsSync(path)) return;
  if (!statSync(path).isDirectory())
    throw new LantrainError('LT_RUN_EXISTS', `${path} is a file, and --out names a folder; choose another --out`);
  if (readdirSync(path).length > 0)
    throw new LantrainError('LT_RUN_EXISTS', `${path} exists and is not empty; choose another --out`);
}
