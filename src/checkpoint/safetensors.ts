import { closeSync, readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { writeWhole } from '../files/atomic.js';
import { fileKind } from '../files/file-kind.js';
import { isSystemError, reason } from '../files/files.js';
import { openRegular } from '../files/regular-file.js';
import { power } from '../util/portable-math.js';

/**
 * Safetensors, https://github.com/huggingface/safetensors#format:
 *
 *     byte 0            8                          8 + n
 *     | n, u64 LE      | JSON header, n bytes     | tensor data, end to end, no gaps ...        | end of file
 *
 * The header maps a name to `{dtype, shape, data_offsets: [begin, end]}`, bytes counted from the start of the data, and
 * `__metadata__` to strings. Values are little-endian, as is every machine that runs Node with WebGPU.
 */
const MAX_HEADER_BYTES = 2 ** 24;
/** The deepest possible model has about 25,000 moments. */
const MOST_TENSORS = 2 ** 17;
const MOST_DIMENSIONS = 16;
const CHUNK_BYTES = 2 ** 24;

const BITS: Readonly<Record<string, number>> = {
  BOOL: 8, U8: 8, I8: 8, F8_E4M3: 8, F8_E5M2: 8, I16: 16, U16: 16, F16: 16, BF16: 16,
  I32: 32, U32: 32, F32: 32, I64: 64, U64: 64, F64: 64,
}; // biome-ignore format: one table

const Offset = z.number().int().nonnegative();
const Entry = z.object({
  dtype: z.string(),
  shape: z.array(Offset).max(MOST_DIMENSIONS),
  data_offsets: z.tuple([Offset, Offset]),
});
const Metadata = z.record(z.string(), z.string());

export interface TensorInfo {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Number of values. */
  readonly size: number;
  /** Offset of its first value in the file. */
  readonly byteOffset: number;
}

export interface SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * `count` values of a tensor from index `from` on, by default all, as float32 (F16 and BF16 are widened). Reads only
   * these from the file. Throws LT_CHECKPOINT_TENSOR where the tensor is missing or not of a float type,
   * LT_CHECKPOINT_CORRUPT where the file cannot be read.
   */
  read(name: string, from?: number, count?: number): Float32Array;
  close(): void;
}

/** Opens a file and checks its header against the file's length. The caller closes it. Throws LT_CHECKPOINT_CORRUPT. */
export function openSafetensors(path: string): SafetensorsFile {
  let fd: number | undefined;
  try {
    const { fd: open, stats } = openRegular(path);
    fd = open;
    const { tensors, metadata } = readHeader(path, fd, stats.size);
    return {
      path,
      tensors,
      metadata,
      read: (name, from, count) => {
        try {
          return readTensor(path, open, tensors.get(name), name, from, count);
        } catch (error) {
          throw unreadable(path, error);
        }
      },
      close: () => closeSync(open),
    };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw unreadable(path, error);
  }
}

function readHeader(path: string, fd: number, fileBytes: number) {
  if (fileBytes < 8) throw corrupt(path, `is cut off: ${fileBytes} bytes, the length of its header takes 8`);
  const length = readBytes(path, fd, 0, new Uint8Array(8));
  const headerBytes = Number(new DataView(length.buffer).getBigUint64(0, true));
  if (headerBytes < 2 || headerBytes > MAX_HEADER_BYTES) {
    const head = readBytes(path, fd, 0, new Uint8Array(Math.min(fileBytes, 512)));
    throw corrupt(
      path,
      `is no safetensors file: ${otherKind(head) ?? `it begins with a header length of ${headerBytes}`}`,
    );
  }
  const dataStart = 8 + headerBytes;
  if (dataStart > fileBytes)
    throw corrupt(path, `is cut off: its header ends at byte ${dataStart}, the file at ${fileBytes}`);
  const header = parseHeader(path, readBytes(path, fd, 8, new Uint8Array(headerBytes)));

  const entries = Object.entries(header);
  if (entries.length > MOST_TENSORS)
    throw corrupt(path, `has a header of ${entries.length} tensors, more than ${MOST_TENSORS}`);

  const tensors = new Map<string, TensorInfo>();
  const spans: { name: string; begin: number; end: number }[] = [];
  let metadata: Record<string, string> = {};
  for (const [name, value] of entries) {
    if (name === '__metadata__') {
      const parsed = Metadata.safeParse(value);
      if (!parsed.success) throw corrupt(path, 'has a header whose __metadata__ is no map of strings');
      metadata = parsed.data;
      continue;
    }
    const parsed = Entry.safeParse(value);
    if (!parsed.success) throw corrupt(path, `has a damaged header entry for ${name}`);
    const { dtype, shape } = parsed.data;
    const [begin, end] = parsed.data.data_offsets;
    const size = shape.reduce((a, b) => a * b, 1);
    if (!Object.hasOwn(BITS, dtype)) throw corrupt(path, `holds ${name} in the unknown type ${dtype}`);
    if (end - begin !== (size * BITS[dtype]) / 8)
      throw corrupt(
        path,
        `gives ${name} ${end - begin} bytes; [${shape}] of ${dtype} takes ${(size * BITS[dtype]) / 8}`,
      );
    tensors.set(name, { name, dtype, shape, size, byteOffset: dataStart + begin });
    spans.push({ name, begin, end });
  }

  spans.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  for (const { name, begin, end } of spans) {
    if (begin !== position)
      throw corrupt(path, `has ${begin < position ? 'overlapping data' : 'a gap'} before ${name} at byte ${begin}`);
    position = end;
  }
  if (dataStart + position > fileBytes)
    throw corrupt(path, `is cut off: its data ends at byte ${dataStart + position}, the file at ${fileBytes}`);
  if (dataStart + position < fileBytes)
    throw corrupt(path, `has ${fileBytes - dataStart - position} bytes too many at its end`);
  return { tensors, metadata };
}

function otherKind(head: Uint8Array): string | undefined {
  const kind = fileKind(head);
  if (kind) return `it is ${kind.name}; ${kind.advice}`;
  const isPage = /^\s*<(!doctype\s+)?html/i.test(Buffer.from(head).toString('latin1'));
  return isPage ? 'it is an HTML page, as a failed download leaves; fetch it again' : undefined;
}

function parseHeader(path: string, bytes: Uint8Array): object {
  try {
    const header: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (typeof header === 'object' && header !== null && !Array.isArray(header)) return header;
  } catch {}
  throw corrupt(path, 'has a header that is no JSON object');
}

function readTensor(path: string, fd: number, info: TensorInfo | undefined, name: string, from = 0, count?: number) {
  if (!info) throw new LantrainError('LT_CHECKPOINT_TENSOR', `${path} has no tensor ${name}`);
  const { dtype, size, byteOffset } = info;
  const end = count === undefined ? size : from + count;
  if (from < 0 || end < from || end > size)
    throw new RangeError(`values ${from} to ${end} of ${name}, which has ${size}`);
  const values = allocate(path, name, end - from);
  if (dtype === 'F32') {
    readBytes(path, fd, byteOffset + 4 * from, new Uint8Array(values.buffer));
  } else if (dtype === 'F16' || dtype === 'BF16') {
    const words = new Uint16Array(values.length);
    readBytes(path, fd, byteOffset + 2 * from, new Uint8Array(words.buffer));
    const bits = new Uint32Array(values.buffer);
    if (dtype === 'BF16') for (let i = 0; i < words.length; i++) bits[i] = words[i] << 16;
    else for (let i = 0; i < words.length; i++) values[i] = widenF16(words[i]);
  } else {
    throw new LantrainError('LT_CHECKPOINT_TENSOR', `${path}: ${name} is ${dtype}; F32, F16 and BF16 can be read`);
  }
  return values;
}

function allocate(path: string, name: string, count: number): Float32Array<ArrayBuffer> {
  try {
    return new Float32Array(count);
  } catch (cause) {
    const message = `${path}: ${name} has ${count} values, and this machine has no memory for them`;
    throw new LantrainError('LT_SYSTEM', message, { cause });
  }
}

/** IEEE 754 binary16 to a number: sign 1, exponent 5 (bias 15), fraction 10. */
function widenF16(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 31;
  const fraction = word & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * power(2, exponent - 1) * 2 ** -24;
}

function readBytes(path: string, fd: number, position: number, target: Uint8Array): Uint8Array<ArrayBufferLike> {
  for (let done = 0; done < target.length; ) {
    const read = readSync(fd, target, done, Math.min(target.length - done, CHUNK_BYTES), position + done);
    if (read === 0) throw corrupt(path, `is cut off at byte ${position + done}`);
    done += read;
  }
  return target;
}

export interface TensorEntry {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * Writes float32 tensors in the order of `entries`; the file appears whole or not at all. Calls `read` once for each,
 * in that order, and holds only its latest result. Throws LT_RUN_WRITE where the system refuses, and whatever `read`
 * throws.
 */
export async function writeSafetensors(
  path: string,
  entries: readonly TensorEntry[],
  read: (name: string) => Float32Array | Promise<Float32Array>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  await writeWhole(path, async (file) => {
    await writeBytes(file, encodeHeader(entries, metadata));
    for (const { name, shape } of entries) {
      const values = await read(name);
      const size = shape.reduce((a, b) => a * b, 1);
      if (values.length !== size) throw new RangeError(`${name} [${shape}] came with ${values.length} values`);
      await writeBytes(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  });
}

/** The length and the header, padded with blanks so that the data begins at a multiple of 8 bytes. */
function encodeHeader(entries: readonly TensorEntry[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let position = 0;
  for (const { name, shape } of entries) {
    const end = position + 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [position, end] };
    position = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true);
  bytes.set(json, 8);
  return bytes;
}

async function writeBytes(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.length - done, CHUNK_BYTES));
    done += bytesWritten;
  }
}

/** LT_CHECKPOINT_CORRUPT for an error of the operating system; any other error as it is. */
function unreadable(path: string, error: unknown): unknown {
  return isSystemError(error) ? corrupt(path, `cannot be read: ${reason(error)}`, error) : error;
}

function corrupt(path: string, what: string, cause?: unknown): LantrainError {
  return new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} ${what}`, { cause });
}
