import { isUtf8 } from 'node:buffer';

/** A kind of file that is not what was asked for, and what the user can do. */
export interface FileKind {
  /** With its article: "a zip archive". */
  readonly name: string;
  readonly advice: string;
  /** The mark is too long for a file of another kind to begin with it by chance. */
  readonly sure: boolean;
}

const UNPACK = 'unpack it first';
const CONVERT = 'convert it to plain text first';
const WEIGHTS = 'its place is in a folder for --init';

/** Marks of file kinds, one character a byte, at the beginning of the file or at byte `at`. */
const MARKS: readonly (readonly [mark: string, name: string, advice: string, at?: number])[] = [
  ['version https://git-lfs.github.com/spec/', 'a Git LFS pointer', 'fetch the file that it stands for: git lfs pull'],
  ['\x1f\x8b\x08', 'gzip-compressed', UNPACK],
  ['PK\x03\x04', "a zip archive, as .docx, .epub, .npz and PyTorch's files are", UNPACK],
  ['PK\x05\x06', 'an empty zip archive', UNPACK],
  ['BZh91AY&SY', 'bzip2-compressed', UNPACK],
  ['\xfd7zXZ\0', 'xz-compressed', UNPACK],
  ['\x28\xb5\x2f\xfd', 'zstd-compressed', UNPACK],
  ['\x04\x22\x4d\x18', 'lz4-compressed', UNPACK],
  ['7z\xbc\xaf\x27\x1c', 'a 7z archive', UNPACK],
  ['Rar!\x1a\x07', 'a rar archive', UNPACK],
  ['ustar', 'a tar archive', UNPACK, 257],
  ['%PDF-1.', 'a PDF', CONVERT],
  ['%PDF-2.', 'a PDF', CONVERT],
  ['\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'an old Office document', CONVERT],
  ['\x89PNG\r\n\x1a\n', 'a PNG image', 'it holds no text'],
  ['\xff\xd8\xff', 'a JPEG image', 'it holds no text'],
  ['GIF8', 'a GIF image', 'it holds no text'],
  ['RIFF', 'a RIFF file (sound, video or WebP)', 'it holds no text'],
  ['\x93NUMPY', 'a numpy array', 'convert it first'],
  ['\x80\x02\x8a\x0alfc\x9cF\xf9 j\xa8P\x19', 'a PyTorch file of weights', WEIGHTS],
  ['\x80\x02', 'a Python pickle', CONVERT],
  ['\x80\x03', 'a Python pickle', CONVERT],
  ['\x80\x04', 'a Python pickle', CONVERT],
  ['\x80\x05', 'a Python pickle', CONVERT],
  ['PAR1', 'a Parquet table', 'write its text column to a text file first'],
  ['ARROW1\0\0', 'an Arrow table', 'write its text column to a text file first'],
  ['SQLite format 3\0', 'an SQLite database', 'write its text to a text file first'],
  ['\x89HDF\r\n\x1a\n', 'an HDF5 file', 'write its text to a text file first'],
  ['GGUF', 'a GGUF model', 'lantrain reads weights as safetensors'],
  ['\x7fELF', 'a program', 'it holds no text'],
];
const SURE_BYTES = 6;
/** The format limits a safetensors header to 100 MB. */
const MOST_HEADER_BYTES = 100_000_000;

/** The kind of a file by its first bytes; undefined where they have no known mark. */
export function fileKind(head: Uint8Array): FileKind | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, 512)).toString('latin1');
  for (const [mark, name, advice, at = 0] of MARKS)
    if (text.startsWith(mark, at)) return { name, advice, sure: mark.length >= SURE_BYTES };
  if (isSafetensors(head)) return { name: 'a safetensors file of weights', advice: WEIGHTS, sure: true };
  return undefined;
}

function isSafetensors(head: Uint8Array): boolean {
  if (head.length < 10 || head[8] !== 0x7b || head[9] !== 0x22) return false;
  const bytes = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  return bytes >= 2n && bytes <= BigInt(MOST_HEADER_BYTES);
}

/** Control characters that occur in text: tab, line feed, vertical tab, form feed, carriage return, escape. */
const LAYOUT: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1b]);
/** Token ids as 16-bit words look like this much text by chance once in 2^180 files. */
const FEWEST_TEXT_BYTES = 64;

/** Whether bytes are certainly text: UTF-8 without control characters. The last character may be cut off. */
export function looksLikeText(head: Uint8Array): boolean {
  if (head.length < FEWEST_TEXT_BYTES || head.some((byte) => isControl(byte))) return false;
  return isUtf8(cut(head));
}

/** UTF-8 without an incomplete last character. */
function cut(head: Uint8Array): Uint8Array {
  for (let from = head.length - 1; from >= 0 && from >= head.length - 3; from--)
    if (head[from] >= 0xc0) return head.subarray(0, from);
    else if (head[from] < 0x80) break;
  return head;
}

function isControl(code: number): boolean {
  return (code < 0x20 && !LAYOUT.has(code)) || code === 0x7f;
}

/** A fraction of NUL bytes that no text has. */
const NUL_SHARE = 1 / 32;
const FEWEST_NULS = 32;

/** Whether a document has too many NULs for a text. A few are accepted, because NUL is a character of UTF-8. */
export function isFullOfNuls(nuls: number, bytes: number): boolean {
  return nuls >= FEWEST_NULS && nuls >= bytes * NUL_SHARE;
}

/**
 * The encoding of text in 16- or 32-bit units, by its byte order mark or by the positions of its NUL bytes: they are
 * half of every unit of Latin text, and of the blanks and line ends of other text. Undefined where it is none of these.
 */
export function wideEncoding(head: Uint8Array): 'UTF-16LE' | 'UTF-16BE' | 'UTF-32LE' | 'UTF-32BE' | undefined {
  const [a, b, c, d] = head;
  const mark = a === 0xff && b === 0xfe ? 'LE' : a === 0xfe && b === 0xff ? 'BE' : undefined;
  if (mark === 'LE' && c === 0 && d === 0) return 'UTF-32LE';
  if (mark && isPlausible(head.subarray(0, head.length & ~1), `UTF-16${mark}`)) return `UTF-16${mark}`;
  if (a === 0 && b === 0 && c === 0xfe && d === 0xff) return 'UTF-32BE';
  const whole = head.length - (head.length % 4);
  const nuls = [0, 0, 0, 0];
  for (let i = 0; i < whole; i++) if (head[i] === 0) nuls[i % 4]++;
  const units = whole / 4;
  const full = (byte: number) => nuls[byte] >= 0.95 * units;
  if (units >= 2 && full(2) && full(3) && nuls[0] === 0) return 'UTF-32LE';
  if (units >= 2 && full(0) && full(1) && nuls[3] === 0) return 'UTF-32BE';
  const [even, odd] = [nuls[0] + nuls[2], nuls[1] + nuls[3]];
  const most = Math.max(even, odd);
  // Latin text has a NUL in every unit. Other text has fewer, but bytes with a NUL that are not UTF-8 are not text of
  // 8-bit units.
  const hasEnough = (most >= 4 && most >= whole / 4) || isFullOfNuls(most, whole) || (most > 0 && !isUtf8(cut(head)));
  if (!hasEnough || Math.min(even, odd) > 0.05 * most) return undefined;
  const order = odd > even ? 'UTF-16LE' : 'UTF-16BE';
  return isPlausible(head.subarray(0, whole), order) ? order : undefined;
}

/** Whether bytes, decoded as UTF-16 in this order, are characters that occur in texts. The last may be cut off. */
function isPlausible(bytes: Uint8Array, order: 'UTF-16LE' | 'UTF-16BE'): boolean {
  try {
    const text = new TextDecoder(order, { fatal: true }).decode(bytes, { stream: true });
    const strange = text.match(/[\p{Cc}\p{Cn}\p{Co}]/gu)?.filter((character) => !LAYOUT.has(character.charCodeAt(0)));
    return (strange?.length ?? 0) <= 0.01 * text.length;
  } catch {
    return false;
  }
}
