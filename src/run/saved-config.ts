import { join } from 'node:path';
import type { z } from 'zod';
import type { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import { type RunConfig, RunConfigSchema } from '../train/run-config.js';
import { validate } from '../util/validate.js';

/**
 * The whole configuration of a run. Throws LT_CHECKPOINT_CORRUPT where config.json is incomplete or wrong,
 * LT_RUN_MISMATCH where its plan has another version.
 */
export function runConfigOf(run: RunDirectory): RunConfig {
  return parseConfig(run, RunConfigSchema);
}

/** The part of a run's configuration that `schema` describes. Throws as `runConfigOf` does. */
export function parseConfig<T>(run: RunDirectory, schema: z.ZodType<T>): T {
  const parsed = validate(schema, run.config);
  if (parsed.ok) return parsed.data;
  if (parsed.path === 'plan.version')
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `${run.path} cannot go on: its kernel plan's version ${parsed.words}; export its weights and begin another run with --init, or go on with the lantrain that began it (${run.config.version})`,
    );
  throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${join(run.path, 'config.json')}: ${parsed.wrong}`);
}
