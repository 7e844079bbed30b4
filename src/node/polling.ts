/*
 * When Dawn's next poll of a pending map or fence is due. Its binding polls through `setImmediate` again and again, which
 * keeps a core busy. A software driver needs that core (matrix products run half as fast), so there every poll waits for a
 * timer. The delay is a millisecond at first and grows with the length of a wait, because every poll takes a core from the
 * driver for a moment. A GPU loses nothing to a busy core, and many of its waits are shorter than a timer. So there polls
 * are immediate in the first moment of a wait, and only then by timer.
 */
const POLL_MS = 1;
const SLOWEST_POLL_MS = 8;

/** The delay of a poll is at most this fraction of the wait so far. */
const LATE = 1 / 200;

/** On a GPU: polls are immediate for as long. */
const IMMEDIATE_MS = 1;

/** Milliseconds until the next poll of a wait of `waited` ms so far; undefined: poll at once. */
export function pollDelay(waited: number, software: boolean): number | undefined {
  if (!software && waited < IMMEDIATE_MS) return undefined;
  return Math.min(SLOWEST_POLL_MS, Math.max(POLL_MS, LATE * waited));
}
