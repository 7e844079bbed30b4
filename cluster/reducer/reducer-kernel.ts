import {
  ADD,
  ADD_4,
  access,
  BRANCH_IF,
  compile,
  constant,
  END,
  EQUAL,
  get,
  HOST_MEMORY,
  I32,
  IF,
  instantiate,
  LESS,
  LESS_4,
  LOAD,
  LOAD_BYTE,
  LOOP,
  leb,
  MODULE,
  name,
  OR_4,
  SELECT,
  SHIFT_LEFT,
  SHIFT_LEFT_4,
  SHIFT_RIGHT_4,
  type SharedMemory,
  STORE,
  SUB,
  SUB_4,
  section,
  set,
  simd,
  sized,
  tee,
  V128,
  vector,
} from './web-assembly.js';

/**
 * The reducer's inner loop as a WebAssembly module, assembled byte by byte. It adds blocks
 * (`cluster/exchange/blocks.ts`) to 64-bit integers in two planes, four values at a time. It is about ten times as fast
 * as the same loop in JavaScript. Its speed limits how much of a fast network the coordinator can use.
 *
 *     add(widths, payload, values, low, high)   addresses in the imported shared memory; values a multiple of 64
 *
 * For four values with low words d and high words u, there is a carry where the sum is smaller than d:
 *
 *     sum = low + d;   low = sum;   high = high + u - (sum <u d ? -1 : 0)
 */

const LOAD_4_I16 = access(0x03);
const LOAD_4_U16 = access(0x04);
/** Four bytes to four signed words. */
const LOAD_4_I8 = [...access(0x5c), ...simd(0x87), ...simd(0xa7)];

const [WIDTHS, PAYLOAD, VALUES, LOW, HIGH] = [0, 1, 2, 3, 4];
/**
 * The block's width and number of values, the address of its second plane, and the end of its low words in the
 * accumulator.
 */
const [WIDTH, COUNT, SECOND, LOW_END] = [5, 6, 7, 8];
const [D, U, SUM] = [9, 10, 11];

const advance = (local: number, bytes: number) => [...get(local), ...constant(bytes), ...ADD, ...set(local)];
const sign = [...get(D), ...constant(31), ...SHIFT_RIGHT_4];

interface Planes {
  /** Bytes per value in the first and in the second plane. */
  readonly bytes: readonly [number, number];
  /** Code that pushes the low words, and the high words. */
  readonly low: readonly number[];
  readonly high: readonly number[];
}

const PLANES: Readonly<Record<number, Planes>> = {
  1: { bytes: [1, 0], low: [...get(PAYLOAD), ...LOAD_4_I8], high: sign },
  2: { bytes: [2, 0], low: [...get(PAYLOAD), ...LOAD_4_I16], high: sign },
  3: {
    bytes: [2, 1],
    low: [
      ...[...get(PAYLOAD), ...LOAD_4_U16],
      ...[...get(SECOND), ...LOAD_4_I8, ...constant(16), ...SHIFT_LEFT_4],
      ...OR_4,
    ],
    high: sign,
  },
  4: { bytes: [4, 0], low: [...get(PAYLOAD), ...LOAD], high: sign },
  5: { bytes: [4, 1], low: [...get(PAYLOAD), ...LOAD], high: [...get(SECOND), ...LOAD_4_I8] },
  8: { bytes: [4, 4], low: [...get(PAYLOAD), ...LOAD], high: [...get(SECOND), ...LOAD] },
};

/** if (WIDTH == width) { add the whole block } */
function blockOf(width: number, { bytes: [first, second], low, high }: Planes): number[] {
  return [
    ...[...get(WIDTH), ...constant(width), ...EQUAL, ...IF],
    ...[...get(COUNT), ...constant(31 - Math.clz32(first)), ...SHIFT_LEFT, ...get(PAYLOAD), ...ADD, ...set(SECOND)],
    ...LOOP,
    ...[...low, ...set(D), ...high, ...set(U)],
    ...[...get(LOW), ...get(LOW), ...LOAD, ...get(D), ...ADD_4, ...tee(SUM), ...STORE],
    ...[...get(HIGH), ...get(HIGH), ...LOAD, ...get(U), ...ADD_4],
    ...[...get(SUM), ...get(D), ...LESS_4, ...SUB_4, ...STORE],
    ...[...advance(PAYLOAD, 4 * first), ...advance(SECOND, 4 * second), ...advance(LOW, 16), ...advance(HIGH, 16)],
    ...[...get(LOW), ...get(LOW_END), ...LESS, ...BRANCH_IF(0)],
    ...END,
    ...[...get(SECOND), ...set(PAYLOAD)],
    ...END,
  ];
}

const BODY = [
  ...LOOP,
  ...[...get(WIDTHS), ...LOAD_BYTE, ...set(WIDTH)],
  // count = min(256, values)
  ...[...get(VALUES), ...constant(256), ...get(VALUES), ...constant(256), ...LESS, ...SELECT, ...set(COUNT)],
  ...[...get(LOW), ...get(COUNT), ...constant(2), ...SHIFT_LEFT, ...ADD, ...set(LOW_END)],
  ...[...get(WIDTH), ...constant(0), ...EQUAL, ...IF],
  ...[...get(HIGH), ...get(LOW_END), ...get(LOW), ...SUB, ...ADD, ...set(HIGH), ...get(LOW_END), ...set(LOW)],
  ...END,
  ...Object.entries(PLANES).flatMap(([width, planes]) => blockOf(Number(width), planes)),
  ...advance(WIDTHS, 1),
  ...[...get(VALUES), ...get(COUNT), ...SUB, ...tee(VALUES), ...BRANCH_IF(0)],
  ...END,
];

/** The module: imports `host.memory`, shared, of up to 4 GiB; exports `add`. */
export const REDUCER_KERNEL = Uint8Array.from([
  ...MODULE,
  ...section(1, [[0x60, ...vector(Array.from({ length: 5 }, () => [I32])), ...vector([])]]),
  ...section(2, [HOST_MEMORY]),
  ...section(3, [leb(0)]),
  ...section(7, [[...name('add'), 0x00, ...leb(0)]]),
  ...section(10, [
    sized([
      ...vector([
        [4, I32],
        [3, V128],
      ]),
      ...BODY,
      ...END,
    ]),
  ]),
]);

export type AddBlocks = (widths: number, payload: number, values: number, low: number, high: number) => void;

/** Instantiates the kernel on a shared memory. */
export function openKernel(memory: SharedMemory): AddBlocks {
  return instantiate(compile(REDUCER_KERNEL), memory).add as AddBlocks;
}
