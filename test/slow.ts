import { test } from 'vitest';
import { IS_THOROUGH } from './thorough.js';

/**
 * A test that takes longer than a change should have to wait for: `LANTRAIN_ALL_DRIVERS=1 npm test` runs it, and so does .ci/run.
 * Each thing that the tests hold has one that always runs.
 */
export const slowTest = test.skipIf(!IS_THOROUGH);
