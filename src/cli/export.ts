import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MODEL_FILES, writeModel } from '../checkpoint/huggingface.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { writeFailure } from '../files/atomic.js';
import { checkWritable, makeFolder, removeEmpty, removeQuietly } from '../files/files.js';
import { newestCheckpoint } from './generate.js';
import { printLine } from './output.js';

/** Writes a run's newest weights as a Hugging Face GPT-2 folder. */
export async function exportModel(command: { readonly run: string; readonly out: string }): Promise<number> {
  const run = await RunDirectory.open(command.run, 'read');
  const { out } = command;
  checkOut(out);
  const checkpoint = await newestCheckpoint(run);
  let made: string | undefined;
  try {
    made = makeFolder(out);
    await writeModel(out, checkpoint.config, (name) => checkpoint.read('weights', name));
  } catch (error) {
    for (const name of MODEL_FILES) await removeQuietly(join(out, name));
    removeEmpty(out, made);
    throw writeFailure(out, error);
  } finally {
    checkpoint.close();
  }
  printLine(`wrote the weights of ${checkpoint.path} to ${out}`);
  return 0;
}

/** Throws LT_RUN_EXISTS where something is there, LT_RUN_WRITE where the system does not let us look or would refuse. */
function checkOut(out: string): void {
  try {
    if (existsSync(out)) {
      if (!statSync(out).isDirectory())
        throw new LantrainError('LT_RUN_EXISTS', `${out} is a file, and --out names a folder; choose another --out`);
      if (readdirSync(out).length > 0)
        throw new LantrainError('LT_RUN_EXISTS', `${out} exists and is not empty; choose another --out`);
    }
    checkWritable(out);
  } catch (error) {
    throw writeFailure(out, error);
  }
}
