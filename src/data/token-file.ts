import { createHash, type Hash } from 'node:crypto';
import { closeSync, fchmodSync, readSync, type Stats, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { reason } from '../files/files.js';
import { openRegular } from '../files/regular-file.js';
import { ownMark } from '../files/state-folder.js';
import { writeCacheFile } from './cache-folder.js';
import { readFully, type SourceFile } from './source-file.js';
import { DTYPE_BYTES, type Dtype } from './token-layout.js';
import type { TokenSource } from './token-source.js';

/**
 * A token cache: the ids of a big text.
 *
 *     byte 0                4096                                        4096 + 2 training           end of file
 *     | JSON, blanks after | training ids, little-endian uint16 ...    | validation ids ...        |
 */
const HEADER_BYTES = 4096;
const CHUNK_BYTES = 1 << 20;
const MAGIC = 'lantrain tokens 2';
const Header = z.object({
  magic: z.literal(MAGIC),
  /** The text's hash. */
  hash: z.string(),
  tokenizer: z.string(),
  /** Characters of the training part. */
  split: z.number().int(),
  trainingTokens: z.number().int().nonnegative(),
  validationTokens: z.number().int().nonnegative(),
  /** The largest id in the file. */
  maxId: z.number().int().nonnegative(),
  /** SHA-256, hex, of all ids as they lie in the file, and of what the other fields say. */
  idsHash: z.string(),
  /** Proves that this user wrote it on this machine; empty where no mark could be made. */
  mark: z.string(),
});
type Header = z.infer<typeof Header>;

/** What identifies a cache's contents. */
export interface CacheKey {
  /** The hash of the text (`scanText`). */
  readonly hash: string;
  readonly tokenizer: string;
  /** Characters in the training part. */
  readonly split: number;
}

export interface TokenCache {
  readonly training: TokenSource;
  readonly validation: TokenSource;
  readonly maxId: number;
  close(): void;
}

export function tokenCachePath(cacheDir: string, { hash, tokenizer, split }: CacheKey): string {
  return join(cacheDir, `${hash.slice(0, 32)}-${tokenizer}-${split}.tokens`);
}

/** A cache, or why it cannot be used; `why` is undefined where the file is missing. */
export type FoundCache = { readonly cache: TokenCache } | { readonly cache?: undefined; readonly why?: string };

/**
 * Opens the cache at `path` if it is of this text, was written by this user, and its ids have the hash in its
 * header. Reads all of it. `written`: the hash of a cache that this process has just written, which then needs no mark.
 */
export async function openTokenCache(path: string, key: CacheKey, written?: string): Promise<FoundCache> {
  let opened: { readonly fd: number; readonly stats: Stats };
  try {
    opened = openRegular(path);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? {} : { why: `it cannot be read: ${reason(error)}` };
  }
  const { fd } = opened;
  try {
    const { size: bytes, mtimeMs: modifiedMs } = opened.stats;
    const file = { path, bytes, modifiedMs };
    const header = readHeader(fd);
    if (header === undefined) return discard(fd, 'it is damaged, or of another version of lantrain');
    const tokens = header.trainingTokens + header.validationTokens;
    const isOfText = header.hash === key.hash && header.tokenizer === key.tokenizer && header.split === key.split;
    if (!isOfText || bytes !== HEADER_BYTES + 2 * tokens) return discard(fd, 'it is cut off, or of another text');
    // A person who sends the folder or may write to it can make ids with a fitting hash, but no mark.
    const isOwn = header.mark !== '' && header.mark === (await markOf(header.idsHash));
    if (written === undefined ? !isOwn : header.idsHash !== written)
      return discard(fd, 'it was not written by this user on this machine');
    if ((await hashOf(fd, file, header)) !== header.idsHash)
      return discard(fd, 'its ids are not those that were written: they do not have the hash that it names');
    const all = fileTokens(fd, file, { dtype: 'uint16', start: HEADER_BYTES, tokens });
    return {
      cache: {
        training: tokenRange(all, 0, header.trainingTokens),
        validation: tokenRange(all, header.trainingTokens, tokens),
        maxId: header.maxId,
        close: () => closeSync(fd),
      },
    };
  } catch (error) {
    return discard(fd, `it cannot be read: ${reason(error)}`);
  }
}

function discard(fd: number, why: string): FoundCache {
  closeSync(fd);
  return { why };
}

async function hashOf(fd: number, file: SourceFile, header: Header): Promise<string> {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, file.bytes - HEADER_BYTES));
  for (let at = HEADER_BYTES; at < file.bytes; at += chunk.length) {
    const piece = chunk.subarray(0, Math.min(chunk.length, file.bytes - at));
    readFully(fd, piece, at, file);
    hash.update(piece);
    await setImmediate();
  }
  return withFields(hash, header);
}

/** The mark of a cache; empty where no key can be kept. */
async function markOf(idsHash: string): Promise<string> {
  try {
    return await ownMark(['token cache', idsHash]);
  } catch {
    return '';
  }
}

/** Finishes `hash`, over the ids, with the header's fields. */
function withFields(hash: Hash, header: Omit<Header, 'magic' | 'idsHash' | 'mark'>): string {
  const { hash: text, tokenizer, split, trainingTokens, validationTokens, maxId } = header;
  return hash.update(JSON.stringify([text, tokenizer, split, trainingTokens, validationTokens, maxId])).digest('hex');
}

function readHeader(fd: number): Header | undefined {
  try {
    const bytes = Buffer.alloc(HEADER_BYTES);
    readSync(fd, bytes, 0, HEADER_BYTES, 0);
    return Header.safeParse(JSON.parse(bytes.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

/**
 * Writes the cache at `path` from the ids of both parts, whole or not at all. Resolves with its `idsHash`. Throws
 * LT_RUN_WRITE.
 */
export async function writeTokenCache(
  path: string,
  key: CacheKey,
  training: AsyncIterable<number[]>,
  validation: AsyncIterable<number[]>,
): Promise<string> {
  let idsHash = '';
  await writeCacheFile(path, async (fd) => {
    // No other user may change it after it was checked.
    if (process.platform !== 'win32') fchmodSync(fd, 0o600);
    const hash = createHash('sha256');
    let position = HEADER_BYTES;
    let maxId = 0;
    const append = async (pieces: AsyncIterable<number[]>) => {
      const start = position;
      for await (const ids of pieces) {
        maxId = largest(ids, maxId);
        const bytes = new Uint8Array(Uint16Array.from(ids).buffer);
        hash.update(bytes);
        position += writeFully(fd, bytes, position);
      }
      return (position - start) / 2;
    };
    const trainingTokens = await append(training);
    const validationTokens = await append(validation);
    const fields = { ...key, trainingTokens, validationTokens, maxId };
    idsHash = withFields(hash, fields);
    const header: Header = { magic: MAGIC, ...fields, idsHash, mark: await markOf(idsHash) };
    writeFully(fd, Buffer.from(JSON.stringify(header).padEnd(HEADER_BYTES)), 0);
  });
  return idsHash;
}

function writeFully(fd: number, bytes: Uint8Array, position: number): number {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position + done);
  return bytes.length;
}

export function largest(ids: ArrayLike<number>, atLeast: number): number {
  let max = atLeast;
  for (let i = 0; i < ids.length; i++) if (ids[i] > max) max = ids[i];
  return max;
}

/** The position and width of ids in a file. */
export interface StoredIds {
  readonly dtype: Dtype;
  /** Bytes before the first id. */
  readonly start: number;
  readonly tokens: number;
}

/**
 * Little-endian ids of an open file, read when asked for. Of wider ids the lower 16 bits are taken. Only little-endian
 * hosts run Node and Dawn.
 */
export function fileTokens(fd: number, file: SourceFile, { dtype, start: first, tokens }: StoredIds): TokenSource {
  const bytesPerId = DTYPE_BYTES[dtype];
  return {
    length: tokens,
    read(start, count) {
      checkRange(start, count, tokens);
      const bytes = new Uint8Array(bytesPerId * count);
      readFully(fd, bytes, first + bytesPerId * start, file);
      return narrowIds(bytes, dtype);
    },
  };
}

/**
 * Converts ids as stored, at an even byte offset, to uint16; a view where they are uint16 already. `onWide` is called
 * with each id that does not fit, and its index.
 */
export function narrowIds(
  bytes: Uint8Array,
  dtype: Dtype,
  onWide?: (id: number, index: number) => void,
): Uint16Array<ArrayBuffer> {
  const words = new Uint16Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / 2);
  if (dtype === 'uint16') return words;
  const wordsPerId = DTYPE_BYTES[dtype] / 2;
  const ids = new Uint16Array(words.length / wordsPerId);
  for (let i = 0; i < ids.length; i++) {
    const at = i * wordsPerId;
    ids[i] = words[at];
    const isWide = words[at + 1] !== 0 || (wordsPerId === 4 && (words[at + 2] !== 0 || words[at + 3] !== 0));
    if (isWide) onWide?.(wideId(bytes.subarray(2 * at, 2 * at + 2 * wordsPerId), dtype), i);
  }
  return ids;
}

function wideId(bytes: Uint8Array, dtype: Dtype): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (dtype === 'int64') return Number(view.getBigInt64(0, true));
  return dtype === 'int32' ? view.getInt32(0, true) : view.getUint32(0, true);
}

/** Ids [from, to) of a source. */
export function tokenRange(source: TokenSource, from: number, to: number): TokenSource {
  return {
    length: to - from,
    read(start, count) {
      checkRange(start, count, to - from);
      return source.read(from + start, count);
    },
  };
}

/** A source of ids in memory. `read` gives views, which must not be written to. */
export function memoryTokens(ids: Uint16Array): TokenSource {
  return {
    length: ids.length,
    read(start, count) {
      checkRange(start, count, ids.length);
      return ids.subarray(start, start + count);
    },
  };
}

function checkRange(start: number, count: number, length: number): void {
  if (start < 0 || count < 0 || start + count > length) {
    throw new RangeError(`tokens [${start}, ${start + count}) of ${length}`);
  }
}
