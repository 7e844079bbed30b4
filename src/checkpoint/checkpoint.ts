import { type Dirent, readdirSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { isSystemError, removeQuietly, syncDirectory } from '../files.js';
import type { ModelConfig } from '../model/config.js';
import { parameters } from '../model/parameters.js';
import { PARTIAL, writeFailure, writeText } from './atomic.js';
import { type ReadState, STATE_PARTS, StateDigest, type StatePart } from './digest.js';
import { openModel, writeModel } from './huggingface.js';
import { issues, readJson } from './huggingface-config.js';
import { openSafetensors, writeSafetensors } from './safetensors.js';

/**
 * A run's checkpoints, `<run>/checkpoints/`, one folder a step, its name padded to six digits so that `ls` sorts them:
 *
 *     000120/config.json          Hugging Face's, so that each checkpoint is a model that --init takes
 *     000120/model.safetensors
 *     000120/optimizer.safetensors   m.<name>, then v.<name>
 *     000120/state.json
 *     000120.replaced                the older checkpoint of a step, while a new one takes its name
 *     000180.partial                 being written, or removed
 */
const REPLACED = '.replaced';
const STEP_DIGITS = 6;

/** state.json. `step` counts updates: the state after the step of that number. */
export const CheckpointState = z.object({
  step: z.number().int().nonnegative(),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** lantrain's version. */
  version: z.string(),
  tokensSeen: z.number().int().nonnegative(),
  /** Whatever else the trainer needs to go on. */
  trainer: z.record(z.string(), z.json()).default({}),
});
export type CheckpointState = z.infer<typeof CheckpointState>;

export interface Checkpoint {
  readonly path: string;
  readonly config: ModelConfig;
  readonly state: CheckpointState;
  read(part: StatePart, name: string): Float32Array;
  close(): void;
}

export interface NewCheckpoint extends Omit<CheckpointState, 'digest' | 'trainer'> {
  readonly model: ModelConfig;
  readonly trainer?: CheckpointState['trainer'];
  /** Asked for every tensor once, in the digest's order. */
  readonly read: ReadState;
}

export interface Found<T> {
  readonly found: T | undefined;
  /** One line for each newer checkpoint that was passed over because it is damaged. */
  readonly warnings: string[];
}

export function checkpointName(step: number): string {
  return String(step).padStart(STEP_DIGITS, '0');
}

/** The checkpoints in `dir`, oldest first, looked at by name only. */
export function listCheckpoints(dir: string): { step: number; path: string }[] {
  return entries(dir)
    .filter((entry) => entry.isDirectory() && /^\d+$/.test(entry.name))
    .map(({ name }) => ({ step: Number(name), path: join(dir, name) }))
    .sort((a, b) => a.step - b.step);
}

/** Opens one checkpoint: all but the values themselves is checked. Throws LT_CHECKPOINT_CORRUPT or _TENSOR. */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const statePath = join(path, 'state.json');
  const state = CheckpointState.safeParse(readJson(statePath));
  if (!state.success) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${statePath}: ${issues(state.error)}`);
  const model = await openModel(path);
  const close = [model.close];
  try {
    const optimizer = openSafetensors(join(path, 'optimizer.safetensors'));
    close.push(optimizer.close);
    for (const { name, shape } of parameters(model.config))
      for (const moment of [`m.${name}`, `v.${name}`])
        if (optimizer.tensors.get(moment)?.shape.join() !== shape.join())
          throw new LantrainError(
            'LT_CHECKPOINT_TENSOR',
            `${optimizer.path}: ${moment} is missing or not [${shape.join(', ')}]`,
          );
    return {
      path,
      config: model.config,
      state: state.data,
      read: (part, name) => (part === 'weights' ? model.read(name) : optimizer.read(`${part}.${name}`)),
      close: () => {
        for (const one of close) one();
      },
    };
  } catch (error) {
    for (const one of close) one();
    throw error;
  }
}

/** The newest checkpoint in `dir` that opens. The caller closes it. */
export async function latestCheckpoint(dir: string): Promise<Found<Checkpoint>> {
  const warnings: string[] = [];
  for (const { step, path } of listCheckpoints(dir).reverse()) {
    try {
      const found = await openCheckpoint(path);
      if (found.state.step === step) return { found, warnings };
      found.close();
      warnings.push(`${path} is passed over: its state.json says step ${found.state.step}`);
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      warnings.push(`${path} is passed over: ${error.message}`);
    }
  }
  return { found: undefined, warnings };
}

/**
 * Hands every tensor of a checkpoint to `write`, one at a time in the digest's order, and holds all of them against the
 * digest in state.json. Throws LT_CHECKPOINT_CORRUPT where it differs: what was written must then not be used.
 */
export async function restoreCheckpoint(
  checkpoint: Checkpoint,
  write: (part: StatePart, name: string, values: Float32Array) => void | Promise<void>,
): Promise<void> {
  const { path, config, state } = checkpoint;
  const digest = new StateDigest(config);
  for (const part of STATE_PARTS)
    for (const { name } of parameters(config)) {
      const values = checkpoint.read(part, name);
      digest.add(part, name, values);
      await write(part, name, values);
    }
  const got = digest.finish(state.step);
  if (got !== state.digest)
    throw new LantrainError(
      'LT_CHECKPOINT_CORRUPT',
      `${path} is damaged: its digest is ${got}, its state.json says ${state.digest}; remove it to go on from the one before`,
    );
}

/**
 * Writes the checkpoint of a step: under a temporary name, everything fsynced, then renamed. Reads every tensor once and
 * makes the digest on the way. Throws LT_RUN_WRITE where the system refuses; nothing of it is left then and the
 * checkpoints before it stand.
 */
async function writeCheckpoint(dir: string, next: NewCheckpoint): Promise<{ path: string; digest: string }> {
  const { model, step, read } = next;
  const path = join(dir, checkpointName(step));
  const temporary = path + PARTIAL;
  const digest = new StateDigest(model);
  const readThrough = async (part: StatePart, name: string) => {
    const values = await read(part, name);
    digest.add(part, name, values);
    return values;
  };
  try {
    await removeQuietly(temporary);
    await mkdir(temporary, { recursive: true });
    await writeModel(temporary, model, (name) => readThrough('weights', name));
    const moments = (['m', 'v'] as const).flatMap((part) =>
      parameters(model).map(({ name, shape }) => ({ name: `${part}.${name}`, shape })),
    );
    await writeSafetensors(join(temporary, 'optimizer.safetensors'), moments, (moment) =>
      readThrough(moment[0] as 'm' | 'v', moment.slice(2)),
    );
    const state: CheckpointState = {
      step,
      digest: digest.finish(step),
      version: next.version,
      tokensSeen: next.tokensSeen,
      trainer: next.trainer ?? {},
    };
    await writeText(join(temporary, 'state.json'), `${JSON.stringify(state, null, 1)}\n`);
    await moveInto(temporary, path);
    return { path, digest: state.digest };
  } catch (error) {
    await removeQuietly(temporary);
    const refused = error instanceof LantrainError && error.code === 'LT_RUN_WRITE' ? error.cause : error;
    throw isSystemError(refused) ? writeFailure(path, refused) : error;
  }
}

/** Writes the checkpoint of a step and then removes all but the newest `keep`. */
export async function writeAndPrune(
  dir: string,
  next: NewCheckpoint,
  keep: number,
): Promise<{ path: string; digest: string }> {
  const written = await writeCheckpoint(dir, next);
  await pruneCheckpoints(dir, next.step, keep);
  return written;
}

/** Gives `temporary` the name `path`. A folder cannot be renamed over another, so an older one steps aside first. */
async function moveInto(temporary: string, path: string): Promise<void> {
  const aside = path + REPLACED;
  await removeQuietly(aside);
  try {
    await rename(path, aside);
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOENT') throw error;
  }
  try {
    await rename(temporary, path);
  } catch (error) {
    await rename(aside, path).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
  await removeQuietly(aside);
}

/**
 * Removes what a crash left: partial checkpoints, and older ones set aside whose successor arrived; one whose successor
 * did not arrive takes its name back. Only for the process that writes the run: a reader would sweep what is being written.
 */
export async function sweepCheckpoints(dir: string): Promise<void> {
  const names = entries(dir).map(({ name }) => name);
  for (const name of names) {
    const path = join(dir, name);
    if (name.endsWith(PARTIAL)) await removeQuietly(path);
    if (!name.endsWith(REPLACED)) continue;
    const original = name.slice(0, -REPLACED.length);
    if (names.includes(original)) await removeQuietly(path);
    else await rename(path, join(dir, original));
  }
}

/** Removes the checkpoints before `step` but for the newest `keep - 1` of them. Throws LT_RUN_WRITE. */
async function pruneCheckpoints(dir: string, step: number, keep: number): Promise<void> {
  const older = listCheckpoints(dir).filter((checkpoint) => checkpoint.step < step);
  for (const { path } of older.slice(0, Math.max(0, older.length - (keep - 1)))) {
    try {
      await rename(path, path + PARTIAL);
    } catch (error) {
      throw writeFailure(path, error);
    }
    await removeQuietly(path + PARTIAL);
  }
}

function entries(dir: string): Dirent[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}
