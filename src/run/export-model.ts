import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MODEL_FILES, writeModel } from '../checkpoint/huggingface.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { writeFailure } from '../files/atomic.js';
import { checkWritable, makeFolder, removeEmpty, removeQuietly } from '../files/files.js';
import { newestCheckpoint } from './newest-checkpoint.js';
import type { ReadHooks } from './read-hooks.js';

export interface ExportOptions {
  /** The run's folder. */
  readonly run: string;
  /** The folder to write; new or empty. */
  readonly out: string;
}

export interface ExportResult {
  /** The folder that was written. */
  readonly out: string;
  /** The folder of the checkpoint that the weights come from; below, its step and its digest (SHA-256, hex). */
  readonly checkpoint: string;
  readonly step: number;
  readonly digest: string;
}

/**
 * Writes a run's newest weights as a Hugging Face GPT-2 folder: config.json and model.safetensors, float32. Removes
 * what it has written where it fails or `hooks.signal` is aborted; the signal's reason is then thrown.
 *
 * Throws LT_RUN_MISSING without a run or a checkpoint, LT_RUN_EXISTS where `out` is a file or not empty, LT_RUN_WRITE
 * where it cannot be written, LT_CHECKPOINT_CORRUPT where no checkpoint is whole.
 */
export async function exportModel({ run: path, out }: ExportOptions, hooks: ReadHooks = {}): Promise<ExportResult> {
  const run = await RunDirectory.open(path, 'read');
  checkOut(out);
  const checkpoint = await newestCheckpoint(run, hooks);
  let made: string | undefined;
  try {
    hooks.signal?.throwIfAborted();
    made = makeFolder(out);
    await writeModel(out, checkpoint.config, (name) => {
      hooks.signal?.throwIfAborted();
      return checkpoint.read('weights', name);
    });
  } catch (error) {
    for (const name of MODEL_FILES) await removeQuietly(join(out, name));
    removeEmpty(out, made);
    throw writeFailure(out, error);
  } finally {
    checkpoint.close();
  }
  const { step, digest } = checkpoint.state;
  return { out, checkpoint: checkpoint.path, step, digest };
}

/** Throws LT_RUN_EXISTS where something lies at `out`, LT_RUN_WRITE where it cannot be read or written. */
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
