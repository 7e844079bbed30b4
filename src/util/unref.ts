/** Lets a process end before the timer does. A browser's timer is a number, and keeps nothing alive. */
export function unref(timer: number | { unref(): unknown }): void {
  if (typeof timer === 'object') timer.unref();
}
