import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from '../checkpoint/helpers.js';

/** A run of 0.1.0 that was stopped after step 5 of 10. It must not be written. */
export const RELEASED_RUN = join(import.meta.dirname, '../released/0.1.0/train-f32');

/** A copy of it, removed after the test. */
export function releasedRun(): string {
  const path = join(scratch(), 'run');
  cpSync(RELEASED_RUN, path, { recursive: true });
  return path;
}
