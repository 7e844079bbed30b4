import { test } from 'vitest';
import { IS_THOROUGH } from './thorough.js';

/**
 * A test that is too slow to run for every change. `LANTRAIN_ALL_DRIVERS=1 npm test` and .ci/run run it. Every
 * behaviour also has a test that always runs.
 */
export const slowTest = test.skipIf(!IS_THOROUGH);
