/** All drivers, all schedules, all that is slow: what CI runs. */
export const IS_THOROUGH = !!process.env.LANTRAIN_ALL_DRIVERS;

/** The cases that always run: one of each `every`, or all of them where the run is thorough. */
export function sampled<T>(cases: readonly T[], every: number): T[] {
  return cases.filter((_, index) => IS_THOROUGH || index % every === 0);
}
