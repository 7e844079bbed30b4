/** Pieces of WebAssembly modules, as bytes, and what the reducer's threads use of the global `WebAssembly`. */

/** Unsigned LEB128. */
export function leb(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];
}

/** i32.const; LEB128 is signed there. */
export function constant(value: number): number[] {
  const bytes = [0x41];
  let rest = value;
  for (; rest >= 0x40; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

export const get = (local: number) => [0x20, local];
export const set = (local: number) => [0x21, local];
export const tee = (local: number) => [0x22, local];
export const simd = (opcode: number) => [0xfd, ...leb(opcode)];
/** A memory access with a constant offset; the alignment of 0 is only a hint. */
export const access = (opcode: number, offset = 0) => [...simd(opcode), 0, ...leb(offset)];

export const ADD = [0x6a];
export const SUB = [0x6b];
export const AND = [0x71];
export const SHIFT_LEFT = [0x74];
export const SHIFT_RIGHT = [0x76];
export const EQUAL = [0x46];
export const LESS = [0x49];
export const SELECT = [0x1b];
export const LOAD_BYTE = [0x2d, 0, 0];
export const IF = [0x04, 0x40];
export const LOOP = [0x03, 0x40];
export const BRANCH_IF = (depth: number) => [0x0d, depth];
export const END = [0x0b];

export const load = (offset: number) => access(0x00, offset);
export const store = (offset: number) => access(0x0b, offset);
export const LOAD = load(0);
export const STORE = store(0);
export const ZERO_4 = [...simd(0x0c), ...new Array(16).fill(0)];
export const OR_4 = simd(0x50);
export const LESS_4 = simd(0x3a);
export const SHIFT_LEFT_4 = simd(0xab);
/** Arithmetic. */
export const SHIFT_RIGHT_4 = simd(0xac);
/** Logical. */
export const SHIFT_DOWN_4 = simd(0xad);
export const ADD_4 = simd(0xae);
export const SUB_4 = simd(0xb1);

export const [I32, V128, FUNCREF] = [0x7f, 0x7b, 0x70];
export const vector = (items: readonly (readonly number[])[]) => [...leb(items.length), ...items.flat()];
export const sized = (bytes: readonly number[]) => [...leb(bytes.length), ...bytes];
export const section = (id: number, items: readonly (readonly number[])[]) => [id, ...sized(vector(items))];
export const name = (text: string) => sized([...new TextEncoder().encode(text)]);

/** How a module begins. */
export const MODULE = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** The import `host.memory`: shared, of up to 4 GiB. */
export const HOST_MEMORY = [...name('host'), ...name('memory'), 0x02, 0x03, ...leb(0), ...leb(65536)];

/** A shared WebAssembly.Memory. Threads can send it to each other. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

/** A compiled module. */
export type Module = object;

/** The used part of the global: Node's types lack it. */
declare const WebAssembly: {
  readonly Memory: new (options: { initial: number; maximum: number; shared: true }) => SharedMemory;
  readonly Module: new (bytes: Uint8Array) => Module;
  readonly Instance: new (module: Module, imports: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

const PAGE_BYTES = 65536;

/** Zeroed memory; the system provides pages when they are first touched. */
export function sharedMemory(bytes: number): SharedMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

export function compile(bytes: Uint8Array): Module {
  return new WebAssembly.Module(bytes);
}

/** The exports of a module that imports `memory`. */
export function instantiate(module: Module, memory: SharedMemory): Readonly<Record<string, unknown>> {
  return new WebAssembly.Instance(module, { host: { memory } }).exports;
}
