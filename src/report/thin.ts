/**
 * About `most` of `items`, without losing a spike: the first, the last, and in each run of neighbours those where one
 * of `values` is least or greatest. Values that are not finite are ignored.
 */
export function thin<T>(items: readonly T[], most: number, values: readonly ((item: T) => number)[]): T[] {
  if (items.length <= most) return [...items];
  const runs = Math.max(1, Math.floor((most - 2) / (2 * values.length)));
  const length = Math.ceil((items.length - 2) / runs);
  const kept = new Set([0, items.length - 1]);
  for (let begin = 1; begin < items.length - 1; begin += length) {
    const end = Math.min(begin + length, items.length - 1);
    for (const value of values) {
      let [least, greatest] = [-1, -1];
      for (let i = begin; i < end; i++) {
        const here = value(items[i]);
        if (!Number.isFinite(here)) continue;
        if (least < 0 || here < value(items[least])) least = i;
        if (greatest < 0 || here > value(items[greatest])) greatest = i;
      }
      if (least >= 0) kept.add(least).add(greatest);
    }
  }
  return items.filter((_, i) => kept.has(i));
}
