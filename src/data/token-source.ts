/**
 * Token ids in order. `read` gives ids [start, start + count), which must not be written to; throws a RangeError beyond
 * the end.
 */
export interface TokenSource {
  readonly length: number;
  read(start: number, count: number): Uint16Array;
}
