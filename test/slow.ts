/**
 * What takes longer than a change should have to wait for. `LANTRAIN_ALL_DRIVERS=1 npm test` runs it, and so does .ci/run.
 * Each kind of test has one that is not slow.
 */
export const IS_THOROUGH = !!process.env.LANTRAIN_ALL_DRIVERS;

/** Ends the name of a test that is skipped otherwise. */
export const THOROUGH_ONLY = '(slow: LANTRAIN_ALL_DRIVERS=1 runs it)';
