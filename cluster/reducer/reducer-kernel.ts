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

/** Unsigned LEB128. */
function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

/** i32.const; LEB128 is signed there. */
function constant(value: number): number[] {
  const bytes = [0x41];
  let rest = value;
  for (; rest >= 0x40; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const tee = (local: number) => [0x22, local];
const simd = (opcode: number) => [0xfd, ...leb(opcode)];
/** A memory access without offset; the alignment of 0 is only a hint. */
const access = (opcode: number) => [...simd(opcode), 0, 0];

const ADD = [0x6a];
const SUB = [0x6b];
const SHIFT_LEFT = [0x74];
const EQUAL = [0x46];
const LESS = [0x49];
const SELECT = [0x1b];
const LOAD_BYTE = [0x2d, 0, 0];
const IF = [0x04, 0x40];
const LOOP = [0x03, 0x40];
const BRANCH_IF = (depth: number) => [0x0d, depth];
const END = [0x0b];

const LOAD = access(0x00);
const LOAD_4_I16 = access(0x03);
const LOAD_4_U16 = access(0x04);
/** Four bytes to four signed words. */
const LOAD_4_I8 = [...access(0x5c), ...simd(0x87), ...simd(0xa7)];
const STORE = access(0x0b);
const OR_4 = simd(0x50);
const LESS_4 = simd(0x3a);
const SHIFT_LEFT_4 = simd(0xab);
const SHIFT_RIGHT_4 = simd(0xac);
const ADD_4 = simd(0xae);
const SUB_4 = simd(0xb1);

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

const [I32, V128] = [0x7f, 0x7b];
const vector = (items: readonly (readonly number[])[]) => [...leb(items.length), ...items.flat()];
const sized = (bytes: readonly number[]) => [...leb(bytes.length), ...bytes];
const section = (id: number, items: readonly (readonly number[])[]) => [id, ...sized(vector(items))];
const name = (text: string) => sized([...new TextEncoder().encode(text)]);

/** The module: imports `host.memory`, shared, of up to 4 GiB; exports `add`. */
export const REDUCER_KERNEL = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, [[0x60, ...vector(Array.from({ length: 5 }, () => [I32])), ...vector([])]]),
  ...section(2, [[...name('host'), ...name('memory'), 0x02, 0x03, ...leb(0), ...leb(65536)]]),
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

/** A shared WebAssembly.Memory. Threads can send it to each other. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** The used part of the global: Node's types lack it. */
declare const WebAssembly: {
  readonly Memory: new (options: { initial: number; maximum: number; shared: true }) => SharedMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: { readonly add: AddBlocks } };
};

const PAGE_BYTES = 65536;

/** Zeroed memory; the system provides pages when they are first touched. */
export function sharedMemory(bytes: number): SharedMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Instantiates the kernel on a shared memory. */
export function openKernel(memory: SharedMemory): AddBlocks {
  return new WebAssembly.Instance(new WebAssembly.Module(REDUCER_KERNEL), { host: { memory } }).exports.add;
}
