/** Whether to run everything, as CI does: all drivers, all schedules, all slow tests. */
export const IS_THOROUGH = !!process.env.LANTRAIN_ALL_DRIVERS;

/** The cases to run: every `every`-th one, or all of them in a thorough run. */
export function sampled<T>(cases: readonly T[], every: number): T[] {
  return cases.filter((_, index) => IS_THOROUGH || index % every === 0);
}
