import { existsSync, readdirSync, statSync } from 'node:fs';
import { writeFailure } from '../checkpoint/atomic.js';
import { writeModel } from '../checkpoint/huggingface.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { removeQuietly } from '../files.js';
import { newestCheckpoint } from './generate.js';

/** Writes a run's newest weights as a Hugging Face GPT-2 folder. */
export async function exportModel(command: { readonly run: string; readonly out: string }): Promise<number> {
  const run = await RunDirectory.open(command.run, 'read');
  checkOut(command.out);
  const isNew = !existsSync(command.out);
  const checkpoint = await newestCheckpoint(run);
  try {
    await writeModel(command.out, checkpoint.config, (name) => checkpoint.read('weights', name));
  } catch (error) {
    if (isNew) await removeQuietly(command.out);
    throw error;
  } finally {
    checkpoint.close();
  }
  process.stdout.write(`wrote the weights of ${checkpoint.path} to ${command.out}\n`);
  return 0;
}

/** Throws LT_RUN_EXISTS where something is there, LT_RUN_WRITE where the system does not let us look. */
function checkOut(out: string): void {
  let names: string[] = [];
  try {
    if (!existsSync(out)) return;
    if (!statSync(out).isDirectory())
      throw new LantrainError('LT_RUN_EXISTS', `${out} is a file, and --out names a folder; choose another --out`);
    names = readdirSync(out);
  } catch (error) {
    throw writeFailure(out, error);
  }
  if (names.length > 0)
    throw new LantrainError('LT_RUN_EXISTS', `${out} exists and is not empty; choose another --out`);
}
