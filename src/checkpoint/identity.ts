import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { ModelSchema } from '../model/config.js';
import { WIRES } from '../model/wire.js';

/** A run's config.json as far as every reader needs it. `RunConfig` in train/run-config.ts is the whole of it. */
export const RunIdentity = z.looseObject({
  /** lantrain's version. */
  version: z.string(),
  model: ModelSchema,
  /** Which parts its checkpoints have. Absent: exact. */
  options: z.looseObject({ wire: z.enum(WIRES).optional() }).optional(),
});
export type RunIdentity = z.infer<typeof RunIdentity>;

/** The differences between two JSON values, one line each with a dotted path; empty where they are equal. */
export function compareIdentity(saved: unknown, wanted: unknown, path = ''): string[] {
  if (isRecord(saved) && isRecord(wanted)) {
    const keys = new Set([...Object.keys(saved), ...Object.keys(wanted)]);
    return [...keys].flatMap((key) => compareIdentity(saved[key], wanted[key], path ? `${path}.${key}` : key));
  }
  if (Array.isArray(saved) && Array.isArray(wanted) && saved.length === wanted.length)
    return saved.flatMap((value, i) => compareIdentity(value, wanted[i], `${path}[${i}]`));
  const [before, now] = [show(saved), show(wanted)];
  return before === now ? [] : [`${path || 'it'} is ${before} in the run, ${now} now`];
}

/** Throws LT_RUN_MISMATCH, naming every difference, unless both identities are the same. */
export function checkIdentity(run: string, saved: unknown, wanted: unknown): void {
  const differences = compareIdentity(saved, wanted);
  if (differences.length > 0)
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `${run} cannot go on as another run: ${differences.join('; ')}; resume it with its own settings, or begin another run`,
    );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return value === undefined ? 'not set' : JSON.stringify(value);
}
