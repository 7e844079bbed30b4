/** Lets a process end before its timer fires. A browser's timer is a number and needs nothing. */
export function unref(timer: number | { unref(): unknown }): void {
  if (typeof timer === 'object') timer.unref();
}
