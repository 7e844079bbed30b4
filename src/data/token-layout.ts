import { gunzipSync, constants as zlib } from 'node:zlib';
import { LantrainError } from '../errors.js';
import { fileKind, looksLikeText } from '../files/file-kind.js';
import { readHead } from '../files/regular-file.js';
import { type SourceFile, unreadable } from './source-file.js';
import { chunksOf } from './text.js';

/** How a file stores token ids. All are little-endian. */
export interface TokenLayout {
  readonly dtype: Dtype;
  /** Bytes before the first id. */
  readonly start: number;
  readonly tokens: number;
  /** The format's name, for people. */
  readonly name: string;
}

export type Dtype = keyof typeof DTYPE_BYTES;
export const DTYPE_BYTES = { uint16: 2, uint32: 4, int32: 4, int64: 8 } as const;

const HEAD_BYTES = 1 << 16;
const CHUNK_BYTES = 1 << 20;

/** The first bytes of a file. Throws LT_DATA_MISSING where it cannot be read. */
export function headOf(file: SourceFile): Buffer {
  try {
    return readHead(file.path, HEAD_BYTES);
  } catch (error) {
    throw unreadable(file.path, error);
  }
}

/**
 * The layout by a file's header, whatever the file's name: numpy's .npy or llm.c's. Undefined without such a header; no
 * text begins like one. Throws LT_DATA_CORRUPT where the file is cut off, damaged, or of a type that cannot hold ids.
 */
export function declaredLayout(file: SourceFile, head: Buffer): TokenLayout | undefined {
  return numpyLayout(file, head) ?? llmcLayout(file, head);
}

const NUMPY_MAGIC = Buffer.from('\x93NUMPY', 'latin1');
const NUMPY_DTYPES: Readonly<Record<string, Dtype>> = {
  '<u2': 'uint16',
  '<u4': 'uint32',
  '<i4': 'int32',
  '<i8': 'int64',
};

/** https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html: magic, version, header length, a Python dict. */
function numpyLayout(file: SourceFile, head: Buffer): TokenLayout | undefined {
  if (!head.subarray(0, NUMPY_MAGIC.length).equals(NUMPY_MAGIC)) return undefined;
  const save = 'save it with numpy.save as one flat array of uint16';
  const refuse = (what: string) => corrupt(file, `is a numpy file ${what}: ${save}`);
  const fields = head.length < 12 ? 0 : head[6] === 1 ? 2 : 4;
  const start = 8 + fields + (fields === 4 ? head.readUInt32LE(8) : fields === 2 ? head.readUInt16LE(8) : 0);
  if (fields === 0 || start > file.bytes) throw refuse('that is cut off in its header');
  const header = head.subarray(8 + fields, start).toString('latin1');
  const descr = /'descr': *('[^']*'|\[)/.exec(header)?.[1];
  const order = /'fortran_order': *(True|False)/.exec(header)?.[1];
  const shape = /'shape': *\(([\dL, ]*)\)/.exec(header)?.[1].match(/\d+/g);
  if (descr === undefined || order === undefined || !header.includes("'shape'")) throw refuse('with a damaged header');
  const dtype = NUMPY_DTYPES[descr.slice(1, -1)];
  if (dtype === undefined)
    throw refuse(
      `of ${descr === '[' ? 'records' : `dtype ${descr}`}, and token ids are ${Object.keys(NUMPY_DTYPES).join(', ')}`,
    );
  if (shape?.length !== 1) throw refuse(`of ${shape?.length ?? 0} dimensions, and token ids have one`);
  if (order === 'True') throw refuse('in Fortran order');
  return sized(file, { dtype, start, tokens: Number(shape[0]), name: `numpy ${dtype}` });
}

const LLMC_HEADER_BYTES = 1024;
/** llm.c, dev/data/data_common.py. */
const LLMC_TOKENS: Readonly<Record<number, { readonly version: number; readonly dtype: Dtype }>> = {
  20240520: { version: 1, dtype: 'uint16' },
  20240801: { version: 7, dtype: 'uint32' },
};
/** Other files of llm.c, by their magic number. */
const LLMC_OTHERS: Readonly<Record<number, string>> = {
  20240326: 'a model',
  20240327: 'a debug state',
  20240328: 'a tokenizer',
  20240522: 'an evaluation set',
  20240527: 'an optimizer state',
};

/** 256 int32: magic, version, number of tokens, zeros. */
function llmcLayout(file: SourceFile, head: Buffer): TokenLayout | undefined {
  if (head.length < LLMC_HEADER_BYTES) return undefined;
  const [magic, version, tokens] = [0, 4, 8].map((at) => head.readInt32LE(at));
  const zerosFrom = (at: number) => head.subarray(at, LLMC_HEADER_BYTES).every((byte) => byte === 0);
  const other = LLMC_OTHERS[magic];
  if (other && version >= 0 && version < 100 && zerosFrom(512))
    throw corrupt(file, `is ${other} of llm.c, not a token file: give --data the .bin that its data scripts write`);
  const known = LLMC_TOKENS[magic];
  if (!known || !zerosFrom(12)) return undefined;
  const { dtype } = known;
  if (version !== known.version)
    throw corrupt(
      file,
      `is a token file of llm.c of version ${version}, and lantrain knows version ${known.version}: write it anew`,
    );
  return sized(file, { dtype, start: LLMC_HEADER_BYTES, tokens, name: `llm.c ${dtype}` });
}

/** Throws LT_DATA_CORRUPT unless the file has the length in its header, LT_DATA_EMPTY where it has no ids. */
function sized(file: SourceFile, layout: TokenLayout): TokenLayout {
  const expected = layout.start + DTYPE_BYTES[layout.dtype] * layout.tokens;
  if (expected !== file.bytes)
    throw corrupt(
      file,
      `${file.bytes < expected ? 'is cut off' : 'has bytes too many'}: its header says ${layout.tokens} ids of ` +
        `${layout.name}, which end at byte ${expected}, and the file ends at ${file.bytes}; write it anew`,
    );
  if (layout.tokens === 0) throw new LantrainError('LT_DATA_EMPTY', `${file.path} is empty: its header says 0 ids`);
  return layout;
}

/**
 * The layout of a `.bin` file without a header: uint16, as nanoGPT writes it, unless its bytes cannot be that. Ids of 4
 * or 8 bytes are recognized because every second one, or three of four, of the 16-bit words is zero.
 *
 * Throws LT_DATA_CORRUPT for an odd length, for a file of another kind, and where the layout is ambiguous.
 */
export async function rawLayout(file: SourceFile, head: Buffer): Promise<TokenLayout> {
  const kind = fileKind(head);
  if (kind && (kind.sure || isReally(kind.name, head, file)))
    throw corrupt(file, `is ${kind.name}, but a .bin file holds token ids: ${kind.advice}`);
  if (looksLikeText(head))
    throw corrupt(file, 'is text, but a .bin file holds token ids: give it another extension, such as .txt');
  if (file.bytes % 2 === 1)
    throw new LantrainError(
      'LT_DATA_CORRUPT',
      `${file.path} has ${file.bytes} bytes, an odd number, but a .bin file holds token ids of two bytes each: it is ` +
        'cut off or no token file; write it anew, or give it another extension if it is text',
    );
  const dtype = await widthOf(file, head);
  const name = dtype === 'uint16' ? 'stored' : `stored as ${dtype}`;
  return { dtype, start: 0, tokens: file.bytes / DTYPE_BYTES[dtype], name };
}

/** Whether a file really is of the kind of a short mark, which two token ids may equal by chance. */
function isReally(name: string, head: Buffer, { bytes }: SourceFile): boolean {
  try {
    if (name.startsWith('gzip')) return gunzipSync(head, { finishFlush: zlib.Z_SYNC_FLUSH }).length > 0;
  } catch {
    return false;
  }
  // A zip begins with a header of 30 bytes and a readable file name.
  return name.startsWith('a zip') && bytes > 100 && looksLikeName(head.subarray(30, 30 + head.readUInt16LE(26)));
}

function looksLikeName(bytes: Buffer): boolean {
  return bytes.length > 3 && bytes.every((byte) => byte >= 0x20 && byte !== 0x7f);
}

/** Counts of 16-bit words by their position in an id of 8 bytes. */
class Words {
  readonly #zero = [0, 0, 0, 0];
  /** Words that can be the upper half of an id: 0 to 3, or 0xffff of a negative one. */
  readonly #upper = [0, 0, 0, 0];
  #count = 0;
  #largest = 0;

  add(words: Uint16Array): void {
    for (let i = 0; i < words.length; i++) {
      const word = words[i];
      if (word === 0) this.#zero[i & 3]++;
      if (word < 4 || word === 0xffff) this.#upper[i & 3]++;
      else if (word > this.#largest) this.#largest = word;
    }
    this.#count += words.length;
  }

  /** The layout that the words must have (`sure`), or may have as well as uint16; undefined where uint16 fits. */
  judge(): { readonly dtype: Dtype | 'uint32, big-endian'; readonly sure: boolean } | undefined {
    const all = (counts: readonly number[], ...places: number[]) =>
      places.every((place) => counts[place] * 4 === this.#count);
    const ids = (...places: number[]) => places.reduce((sum, at) => sum + this.#count / 4 - this.#zero[at], 0);
    // Ids below 256 may be 0 in every second position (those of UTF-16 text are), larger ids not.
    const sure = this.#largest > 255;
    const enough = (n: number) => n >= (sure ? 16 : 32);
    // Where the ids themselves may be that small, such as letters of DNA, only zeros count.
    const isUpper = (...places: number[]) => all(sure ? this.#upper : this.#zero, ...places);
    if (all(this.#zero, 2, 3) && isUpper(1) && enough(ids(0))) return { dtype: 'int64', sure };
    if (isUpper(1, 3) && enough(ids(0, 2))) return { dtype: 'uint32', sure };
    if (all(this.#zero, 0, 2) && enough(ids(1, 3))) return { dtype: 'uint32, big-endian', sure: false };
    return undefined;
  }
}

async function widthOf(file: SourceFile, head: Buffer): Promise<Dtype> {
  // An incomplete id of 8 bytes at the end, at most three words, is left out.
  const whole = (bytes: Buffer) => new Uint16Array(bytes.buffer, bytes.byteOffset, 4 * Math.floor(bytes.length / 8));
  const first = new Words();
  first.add(whole(head));
  if (first.judge() === undefined) return 'uint16';
  const words = new Words();
  for await (const { bytes } of chunksOf({ file, start: 0, end: file.bytes }, CHUNK_BYTES, 'tokens'))
    words.add(whole(bytes));
  const verdict = words.judge();
  if (verdict === undefined) return 'uint16';
  const { dtype, sure } = verdict;
  if (dtype === 'uint32, big-endian' || !sure || file.bytes % DTYPE_BYTES[dtype] !== 0)
    throw corrupt(
      file,
      `seems to hold ids of ${dtype}, as ${dtype === 'int64' ? 'three of four' : 'every second'} of its 16-bit words ` +
        'are 0, but a .bin file may also hold them as uint16: save it with numpy.save, as .npy, which says the type',
    );
  return dtype;
}

function corrupt(file: SourceFile, what: string): LantrainError {
  return new LantrainError('LT_DATA_CORRUPT', `${file.path} ${what}`);
}
