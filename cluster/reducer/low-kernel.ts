import { LOW_WIDTHS } from '../exchange/low-blocks.js';
import {
  ADD,
  ADD_4,
  AND,
  BRANCH_IF,
  compile,
  constant,
  END,
  FUNCREF,
  get,
  HOST_MEMORY,
  I32,
  instantiate,
  LESS,
  LESS_4,
  LOAD_BYTE,
  LOOP,
  leb,
  load,
  MODULE,
  type Module,
  name,
  OR_4,
  SHIFT_DOWN_4,
  SHIFT_LEFT,
  SHIFT_LEFT_4,
  SHIFT_RIGHT,
  SHIFT_RIGHT_4,
  type SharedMemory,
  SUB_4,
  section,
  set,
  sized,
  store,
  tee,
  V128,
  vector,
  ZERO_4,
} from './web-assembly.js';

/**
 * The reducer's inner loop for the low wire (`cluster/exchange/low-blocks.ts`), like `reducer-kernel.ts`:
 *
 *     add(codes, payload, blocks, low, high)   addresses in the imported shared memory
 *     put(codes, payload, blocks, low, high)   the same, but the values replace what was there
 *
 * Each width has a function of its own, with its shifts as constants and without a loop. A vector holds one value of each of
 * the block's four streams.
 */

/** Vectors of a block. */
const VECTORS = 32;
const PLANE_BYTES = 16 * VECTORS;

// Of a block's function: parameters, then vectors.
const [PAYLOAD, LOW, HIGH] = [0, 1, 2];
const [WORD, NEXT, D, SUM] = [3, 4, 5, 6];

/** Code that sets D to value i of all four streams. WORD holds the word that value i - 1 ended in. */
function vectorAt(i: number, width: number): number[] {
  const word = Math.floor((i * width) / 32);
  const bit = (i * width) % 32;
  const end = bit + width;
  const left = (by: number) => (by === 0 ? [] : [...constant(by), ...SHIFT_LEFT_4]);
  const right = width === 32 ? [] : [...constant(32 - width), ...SHIFT_RIGHT_4];
  const read = (at: number, into: number) => [...get(PAYLOAD), ...load(16 * at), ...set(into)];
  const first = bit === 0 ? read(word, WORD) : [];
  if (end <= 32) return [...first, ...get(WORD), ...left(32 - end), ...right, ...set(D)];
  return [
    ...[...read(word + 1, NEXT), ...get(WORD), ...constant(bit), ...SHIFT_DOWN_4],
    ...[...get(NEXT), ...left(32 - bit), ...OR_4, ...left(32 - width), ...right, ...set(D)],
    ...[...get(NEXT), ...set(WORD)],
  ];
}

/** Code that adds D, with high words `high`, to vector i of the sums. There is a carry where the sum is smaller than D. */
function addAt(i: number, high: readonly number[]): number[] {
  return [
    ...[...get(LOW), ...get(LOW), ...load(16 * i), ...get(D), ...ADD_4, ...tee(SUM), ...store(16 * i)],
    ...[...get(HIGH), ...get(HIGH), ...load(16 * i), ...high, ...ADD_4],
    ...[...get(SUM), ...get(D), ...LESS_4, ...SUB_4, ...store(16 * i)],
  ];
}

function putAt(i: number, high: readonly number[]): number[] {
  return [...get(LOW), ...get(D), ...store(16 * i), ...get(HIGH), ...high, ...store(16 * i)];
}

/** block(payload, low, high) -> where the next block's payload begins. */
function blockOf(width: number, apply: typeof addAt): number[] {
  const sign = [...get(D), ...constant(31), ...SHIFT_RIGHT_4];
  const code: number[] = [];
  for (let i = 0; i < VECTORS; i++) {
    if (width === 0) {
      if (apply === putAt) code.push(...ZERO_4, ...set(D), ...putAt(i, get(D)));
    } else if (width === 64) {
      code.push(...get(PAYLOAD), ...load(16 * i), ...set(D));
      code.push(...apply(i, [...get(PAYLOAD), ...load(PLANE_BYTES + 16 * i)]));
    } else code.push(...vectorAt(i, width), ...apply(i, sign));
  }
  return [...code, ...get(PAYLOAD), ...constant(16 * width), ...ADD];
}

/** Goes through all blocks; `first` is the number of the function of code 0 in the table. */
function allBlocks(first: number): number[] {
  const [CODES, AT, BLOCKS, LOWS, HIGHS, BLOCK] = [0, 1, 2, 3, 4, 5];
  const advance = (local: number, by: number) => [...get(local), ...constant(by), ...ADD, ...set(local)];
  return [
    ...LOOP,
    ...[...get(AT), ...get(LOWS), ...get(HIGHS)],
    // The code: half a byte, the lower one first.
    ...[...get(CODES), ...get(BLOCK), ...constant(1), ...SHIFT_RIGHT, ...ADD, ...LOAD_BYTE],
    ...[...get(BLOCK), ...constant(1), ...AND, ...constant(2), ...SHIFT_LEFT, ...SHIFT_RIGHT, ...constant(15), ...AND],
    ...[...constant(first), ...ADD, ...CALL_BLOCK, ...set(AT)],
    ...[...advance(LOWS, PLANE_BYTES), ...advance(HIGHS, PLANE_BYTES)],
    ...[...get(BLOCK), ...constant(1), ...ADD, ...tee(BLOCK), ...get(BLOCKS), ...LESS, ...BRANCH_IF(0)],
    ...END,
  ];
}

/** call_indirect of type 0 in table 0. */
const CALL_BLOCK = [0x11, 0, 0];

const functionOf = (locals: readonly (readonly number[])[], body: readonly number[]) =>
  sized([...vector(locals), ...body, ...END]);
const typeOf = (parameters: number, results: number) => [
  0x60,
  ...vector(new Array(parameters).fill([I32])),
  ...vector(new Array(results).fill([I32])),
];

function moduleBytes(): Uint8Array {
  const blocks = [addAt, putAt].flatMap((apply) =>
    LOW_WIDTHS.map((width) => functionOf([[4, V128]], blockOf(width, apply))),
  );
  const loops = [0, LOW_WIDTHS.length].map((first) => functionOf([[1, I32]], allBlocks(first)));
  const indices = blocks.map((_, i) => leb(i));
  return Uint8Array.from([
    ...MODULE,
    ...section(1, [typeOf(3, 1), typeOf(5, 0)]),
    ...section(2, [HOST_MEMORY]),
    ...section(3, [...blocks.map(() => leb(0)), ...loops.map(() => leb(1))]),
    ...section(4, [[FUNCREF, 0x00, ...leb(blocks.length)]]),
    ...section(7, [
      [...name('add'), 0x00, ...leb(blocks.length)],
      [...name('put'), 0x00, ...leb(blocks.length + 1)],
    ]),
    ...section(9, [[0x00, ...constant(0), ...END, ...vector(indices)]]),
    ...section(10, [...blocks, ...loops]),
  ]);
}

type OverBlocks = (codes: number, payload: number, blocks: number, low: number, high: number) => void;

export interface LowKernel {
  readonly add: OverBlocks;
  readonly put: OverBlocks;
}

/** Of this thread; it takes some 50 ms to compile. */
let compiled: Module | undefined;

/** Instantiates the kernel on a shared memory. */
export function openLowKernel(memory: SharedMemory): LowKernel {
  compiled ??= compile(moduleBytes());
  return instantiate(compiled, memory) as unknown as LowKernel;
}
