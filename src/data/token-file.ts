import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from './cache-folder.js';
import type { SourceFile } from './corpus.js';
import type { TokenSource } from './dataset.js';
import { readFully } from './text.js';

/**
 * A token cache: the ids of a text that is too big to hold in memory.
 *
 *     byte 0                4096                                        4096 + 2 training           end of file
 *     | JSON, blanks after | training ids, little-endian uint16 ...    | validation ids ...        |
 */
const HEADER_BYTES = 4096;
const Header = z.object({
  magic: z.literal('lantrain tokens 1'),
  hash: z.string(),
  tokenizer: z.string(),
  /** Characters of the training part. */
  split: z.number().int(),
  trainingTokens: z.number().int().nonnegative(),
  validationTokens: z.number().int().nonnegative(),
  /** The largest id in the file. */
  maxId: z.number().int().nonnegative(),
});

/** What a cache is a cache of. */
export interface CacheKey {
  readonly hash: string;
  readonly tokenizer: string;
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

/** The cache at `path`; undefined where there is none or it is cut off, damaged in its head or of another text. */
export function openTokenCache(path: string, key: CacheKey): TokenCache | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  const header = readHeader(fd);
  const { size: bytes, mtimeMs: modifiedMs } = fstatSync(fd);
  const tokens = header ? header.trainingTokens + header.validationTokens : 0;
  const fits =
    header?.hash === key.hash &&
    header.tokenizer === key.tokenizer &&
    header.split === key.split &&
    bytes === HEADER_BYTES + 2 * tokens;
  if (!header || !fits) {
    closeSync(fd);
    return undefined;
  }
  const file = { path, bytes, modifiedMs };
  return {
    training: fileTokens(fd, file, HEADER_BYTES, header.trainingTokens),
    validation: fileTokens(fd, file, HEADER_BYTES + 2 * header.trainingTokens, header.validationTokens),
    maxId: header.maxId,
    close: () => closeSync(fd),
  };
}

function readHeader(fd: number): z.infer<typeof Header> | undefined {
  try {
    const bytes = Buffer.alloc(HEADER_BYTES);
    readSync(fd, bytes, 0, HEADER_BYTES, 0);
    return Header.safeParse(JSON.parse(bytes.toString('utf8'))).data;
  } catch {
    return undefined;
  }
}

/** Writes the cache at `path` from the ids of both parts, whole or not at all. Throws LT_RUN_WRITE. */
export async function writeTokenCache(
  path: string,
  key: CacheKey,
  training: AsyncIterable<number[]>,
  validation: AsyncIterable<number[]>,
): Promise<void> {
  await writeWhole(path, async (fd) => {
    let position = HEADER_BYTES;
    let maxId = 0;
    const append = async (pieces: AsyncIterable<number[]>) => {
      const start = position;
      for await (const ids of pieces) {
        maxId = largest(ids, maxId);
        position += writeFully(fd, new Uint8Array(Uint16Array.from(ids).buffer), position);
      }
      return (position - start) / 2;
    };
    const trainingTokens = await append(training);
    const validationTokens = await append(validation);
    const header = { magic: 'lantrain tokens 1', ...key, trainingTokens, validationTokens, maxId };
    writeFully(fd, Buffer.from(JSON.stringify(Header.parse(header)).padEnd(HEADER_BYTES)), 0);
  });
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

/**
 * `length` little-endian uint16 ids from byte `offset` of an open file on, read by position when asked for. Hosts are
 * little-endian: Node and Dawn run on no others.
 */
export function fileTokens(fd: number, file: SourceFile, offset: number, length: number): TokenSource {
  return {
    length,
    read(start, count) {
      checkRange(start, count, length);
      const ids = new Uint16Array(count);
      readFully(fd, new Uint8Array(ids.buffer), offset + 2 * start, file);
      return ids;
    },
  };
}

/** Ids in memory; what `read` gives is a view and must not be written to. */
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
