import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { LantrainError } from '../errors.js';
import { fileKind, isFullOfNuls, wideEncoding } from '../files/file-kind.js';
import { checkUnchanged, openForReading, readFully, type SourceFile } from './source-file.js';
import type { Tokenizer } from './tokenizer.js';

/** Bytes [start, end) of a file. */
export interface TextRange {
  readonly file: SourceFile;
  readonly start: number;
  readonly end: number;
}

export interface TextScan {
  /** SHA-256, hex, of the tokenizer's name and of every document's length and bytes. */
  readonly hash: string;
  /** Unicode code points of all documents, without the separators between them. */
  readonly characters: number;
  readonly trainingCharacters: number;
  readonly training: readonly TextRange[];
  readonly validation: readonly TextRange[];
}

const CHUNK_BYTES = 1 << 20;
/** A text that offers no cut for this many UTF-16 code units is cut anyway, to bound memory. */
const LONGEST_RUN = 1 << 20;

/**
 * Reads the documents once, in chunks. Checks that they are UTF-8, hashes them, counts their characters, and finds the
 * position after (1 - valRatio) of the characters, as Python's `text[:int((1 - valRatio) * len(text))]` does.
 *
 * Throws LT_DATA_CORRUPT where a document is not UTF-8, with the byte offset, or is of another kind of file, with its
 * name.
 */
export async function scanText(
  corpus: { readonly files: readonly SourceFile[] },
  tokenizer: Tokenizer,
  valRatio: number,
  chunkBytes: number = CHUNK_BYTES,
): Promise<TextScan> {
  const hash = createHash('sha256').update(`lantrain text ${tokenizer.name}\n`);
  const chunks: { index: number; offset: number; charactersBefore: number }[] = [];
  let characters = 0;
  for (const [index, file] of corpus.files.entries()) {
    hash.update(`${file.bytes}\n`);
    for await (const { bytes, offset } of chunksOf({ file, start: 0, end: file.bytes }, chunkBytes)) {
      checkText(bytes, file, offset);
      hash.update(bytes);
      chunks.push({ index, offset, charactersBefore: characters });
      characters += countCharacters(bytes);
    }
  }
  const split = Math.floor((1 - valRatio) * characters);
  const cut = chunks.findLast((m) => m.charactersBefore <= split) ?? chunks[0];
  let at = corpus.files[cut.index].bytes;
  if (split < characters) {
    const range = { file: corpus.files[cut.index], start: cut.offset, end: at };
    for await (const { bytes, offset } of chunksOf(range, chunkBytes)) {
      at = offset + byteOfCharacter(bytes, split - cut.charactersBefore);
      break;
    }
  }
  const whole = corpus.files.map((file) => ({ file, start: 0, end: file.bytes }));
  return {
    hash: hash.digest('hex'),
    characters,
    trainingCharacters: split,
    training: [...whole.slice(0, cut.index), { ...whole[cut.index], end: at }].filter(notEmpty),
    validation: [{ ...whole[cut.index], start: at }, ...whole.slice(cut.index + 1)].filter(notEmpty),
  };
}

/**
 * Yields the token ids of the documents in `ranges` in chunks, with the tokenizer's separator between documents. The
 * ids are those of each document encoded whole, except where more than LONGEST_RUN offers no cut. At most a few
 * megabytes are in memory. After each chunk `onBytes` is called with its number of bytes.
 */
export async function* tokenIds(
  ranges: readonly TextRange[],
  tokenizer: Tokenizer,
  onBytes: (bytes: number) => void = () => {},
  chunkBytes: number = CHUNK_BYTES,
): AsyncGenerator<number[]> {
  // The scan has found the documents valid, and chunksOf throws where one has changed since.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });
  for (const [index, range] of ranges.entries()) {
    if (index > 0) yield tokenizer.encode(tokenizer.documentSeparator);
    let pending = '';
    for await (const { bytes } of chunksOf(range, chunkBytes)) {
      pending += decoder.decode(bytes);
      const cut = tokenizer.lastCut(pending) || (pending.length >= LONGEST_RUN ? pending.length : 0);
      if (cut > 0) yield tokenizer.encode(pending.slice(0, cut));
      pending = pending.slice(cut);
      onBytes(bytes.length);
    }
    if (pending) yield tokenizer.encode(pending);
  }
}

/**
 * Yields the bytes of `range` in chunks of at most `chunkBytes` (even, at least 4). A chunk of UTF-8 text ends between
 * two characters, a chunk of tokens between two tokens. A chunk is valid until the next one is asked for. Lets the
 * event loop run after each, for signals and progress. Throws LT_DATA_MISSING where the file cannot be read,
 * LT_DATA_CORRUPT where it has changed since the corpus was resolved.
 */
export async function* chunksOf(
  { file, start, end }: TextRange,
  chunkBytes: number,
  of: 'text' | 'tokens' = 'text',
): AsyncGenerator<{ bytes: Buffer; offset: number }> {
  const fd = openForReading(file);
  try {
    // Tokens need an even offset. Unlike allocUnsafe, alloc never gives a slice of a shared pool.
    const buffer = Buffer.alloc(Math.min(chunkBytes, end - start));
    for (let offset = start; offset < end; ) {
      const length = Math.min(buffer.length, end - offset);
      readFully(fd, buffer.subarray(0, length), offset, file);
      const isLast = offset + length === end;
      const bytes = buffer.subarray(0, isLast || of === 'tokens' ? length : wholeCharacters(buffer, length));
      yield { bytes, offset };
      offset += bytes.length;
      await setImmediate();
    }
    checkUnchanged(fd, file);
  } finally {
    closeSync(fd);
  }
}

/** Bytes at the start of a document by which its kind is told. */
const HEAD_BYTES = 1 << 16;

function checkText(bytes: Buffer, file: SourceFile, offset: number): void {
  const isValid = isUtf8(bytes);
  const head = bytes.subarray(0, HEAD_BYTES);
  // A text may begin with a short mark.
  const kind = offset === 0 ? fileKind(head) : undefined;
  if (kind && (kind.sure || !isValid || bytes.includes(0)))
    throw corrupt(file, `is not text: it is ${kind.name}; ${kind.advice}`);
  const encoding = isValid && !bytes.includes(0) ? undefined : wideEncoding(head);
  const remedy = encoding
    ? `it is ${encoding}; convert it (iconv -f ${encoding} -t UTF-8), or call it .bin if it holds token ids`
    : 'convert it to UTF-8, or call it .bin if it holds token ids';
  if (!isValid)
    throw corrupt(file, `is not UTF-8 text: byte ${offset + firstInvalid(bytes)} begins no valid character; ${remedy}`);
  if (encoding) throw corrupt(file, `is not UTF-8 text: ${remedy}`);
  const nuls = bytes.includes(0) ? count(bytes, 0) : 0;
  if (isFullOfNuls(nuls, bytes.length))
    throw corrupt(
      file,
      `is not text: of its ${bytes.length} bytes from byte ${offset} on, ${nuls} are NUL; take them out, convert it to ` +
        'UTF-8, or call it .bin if it holds token ids',
    );
}

function corrupt(file: SourceFile, what: string): LantrainError {
  return new LantrainError('LT_DATA_CORRUPT', `${file.path} ${what}`);
}

function count(bytes: Buffer, wanted: number): number {
  let found = 0;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] === wanted) found++;
  return found;
}

function notEmpty(range: TextRange): boolean {
  return range.end > range.start;
}

/** The largest n <= length for which buffer[0 .. n) does not end inside a character. */
function wholeCharacters(buffer: Buffer, length: number): number {
  for (let i = length - 1; i >= Math.max(0, length - 3); i--) {
    const byte = buffer[i];
    if ((byte & 0xc0) !== 0x80) return i > 0 && i + characterLength(byte) > length ? i : length;
  }
  return length;
}

function characterLength(leadByte: number): number {
  return leadByte < 0xc0 ? 1 : leadByte < 0xe0 ? 2 : leadByte < 0xf0 ? 3 : 4;
}

function countCharacters(bytes: Buffer): number {
  let count = 0;
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] & 0xc0) !== 0x80) count++;
  return count;
}

/** The byte offset of character `n` (from 0) in valid UTF-8; the length where there are only n characters or fewer. */
function byteOfCharacter(bytes: Buffer, n: number): number {
  let offset = 0;
  for (let i = 0; i < n && offset < bytes.length; i++) offset += characterLength(bytes[offset]);
  return offset;
}

function firstInvalid(bytes: Buffer): number {
  let offset = 0;
  for (let length = 0; offset < bytes.length; offset += length) {
    length = characterLength(bytes[offset]);
    if (!isUtf8(bytes.subarray(offset, offset + length))) break;
  }
  return offset;
}
