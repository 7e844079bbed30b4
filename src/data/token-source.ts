/** Token ids in a row. `read` gives ids [start, start + count), to be read only; a RangeError beyond the end. */
export interface TokenSource {
  readonly length: number;
  read(start: number, count: number): Uint16Array;
}
