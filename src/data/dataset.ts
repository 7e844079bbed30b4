import { createHash } from 'node:crypto';
import { closeSync } from 'node:fs';
import { LantrainError } from '../errors.js';
import { cacheFolder } from './cache-folder.js';
import { type Corpus, resolveCorpus, type TextCorpus, type TokenCorpus } from './corpus.js';
import { openForReading } from './source-file.js';
import { chunksOf, scanText, type TextRange, tokenIds } from './text.js';
import {
  fileTokens,
  largest,
  memoryTokens,
  narrowIds,
  openTokenCache,
  type TokenCache,
  tokenCachePath,
  tokenRange,
  writeTokenCache,
} from './token-file.js';
import type { TokenSource } from './token-source.js';
import type { Tokenizer } from './tokenizer.js';

export interface Dataset {
  readonly train: TokenSource;
  readonly validation: TokenSource;
  /**
   * SHA-256, hex. Of token ids: the ids as uint16. Of text: the tokenizer's name and each document's length and bytes.
   */
  readonly hash: string;
  /** One line for people. */
  readonly description: string;
  /** Tokens of both parts. */
  readonly tokens: number;
  close(): void;
}

export interface DatasetOptions {
  /** The value of `--data`; see resolveCorpus. */
  readonly source: string;
  readonly tokenizer: Tokenizer;
  /** The model's vocabulary size. Default: the tokenizer's. */
  readonly vocabSize?: number;
  /**
   * The fraction at the end that is held out for validation, in [0, 1): of the characters of a text, of the tokens of a
   * token file.
   */
  readonly valRatio: number;
  /** The folder of downloads and token caches. Default: cacheFolder(). */
  readonly cacheDir?: string;
  /** Called with bytes while a big text is tokenized; not called where its token cache exists. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Called with a line for people where a token cache is damaged. */
  readonly onNote?: (line: string) => void;
  /**
   * Bytes up to which ids are held in memory. A bigger text is tokenized into a cache file, a bigger token file is read
   * by position. Default 8 MiB.
   */
  readonly inMemoryBytes?: number;
}

const IN_MEMORY_BYTES = 8 << 20;
const CHUNK_BYTES = 1 << 20;

/**
 * Opens `source` as token ids, in a training and a validation part. A text is first read, hashed and counted in chunks.
 * A small text is then tokenized in memory, a big one into a token cache, from which ids are read by position. The
 * caller closes the dataset.
 *
 * Throws as resolveCorpus does; LT_DATA_CORRUPT for text that is not UTF-8 and for a file that changes meanwhile;
 * LT_DATA_TOKEN for an id outside the vocabulary; LT_RUN_WRITE where the token cache cannot be written.
 */
export async function openDataset(options: DatasetOptions): Promise<Dataset> {
  if (!(options.valRatio >= 0 && options.valRatio < 1)) {
    throw new LantrainError('LT_USAGE_OPTION', `--val-ratio is ${options.valRatio}: it must be at least 0 and below 1`);
  }
  const corpus = await resolveCorpus(options.source, options.cacheDir);
  const parts = corpus.kind === 'text' ? await openText(corpus, options) : await openTokens(corpus, options);
  try {
    checkVocabulary(parts, corpus, vocabularyOf(options));
  } catch (error) {
    parts.close();
    throw error;
  }
  const { training, validation, hash, close } = parts;
  const kind = corpus.kind === 'text' ? options.tokenizer.name : corpus.layout.name;
  const files = corpus.files.length === 1 ? '' : `${corpus.files.length} files, `;
  return {
    train: training,
    validation,
    hash,
    description:
      `${corpus.name}: ${files}${corpus.bytes.toLocaleString('en-US')} bytes, ` +
      `${training.length.toLocaleString('en-US')} training and ${validation.length.toLocaleString('en-US')} ` +
      `validation tokens (${kind})`,
    tokens: training.length + validation.length,
    close,
  };
}

interface Parts extends TokenCache {
  readonly hash: string;
}

async function openText(corpus: TextCorpus, options: DatasetOptions): Promise<Parts> {
  const { tokenizer, valRatio, cacheDir = cacheFolder(), onProgress, inMemoryBytes = IN_MEMORY_BYTES } = options;
  const scan = await scanText(corpus, tokenizer, valRatio);
  if (corpus.bytes <= inMemoryBytes) {
    const training = await collect(scan.training, tokenizer);
    const validation = await collect(scan.validation, tokenizer);
    return {
      training: memoryTokens(training),
      validation: memoryTokens(validation),
      hash: scan.hash,
      maxId: largest(validation, largest(training, 0)),
      close: () => {},
    };
  }
  const key = { hash: scan.hash, tokenizer: tokenizer.name, split: scan.trainingCharacters };
  const path = tokenCachePath(cacheDir, key);
  let found = await openTokenCache(path, key);
  if (!found.cache) {
    if (found.why !== undefined) options.onNote?.(`the token cache ${path} is made again: ${found.why}`);
    let done = 0;
    const onBytes = (bytes: number) => {
      done += bytes;
      onProgress?.(done, corpus.bytes);
    };
    const training = tokenIds(scan.training, tokenizer, onBytes);
    const written = await writeTokenCache(path, key, training, tokenIds(scan.validation, tokenizer, onBytes));
    found = await openTokenCache(path, key, written);
  }
  if (!found.cache)
    throw new LantrainError('LT_DATA_CORRUPT', `the token cache ${path} cannot be read back: ${found.why}; delete it`);
  return { ...found.cache, hash: scan.hash };
}

async function collect(ranges: readonly TextRange[], tokenizer: Tokenizer): Promise<Uint16Array> {
  const pieces: Uint16Array[] = [];
  for await (const ids of tokenIds(ranges, tokenizer)) pieces.push(Uint16Array.from(ids));
  const all = new Uint16Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let length = 0;
  for (const piece of pieces) {
    all.set(piece, length);
    length += piece.length;
  }
  return all;
}

/** A file of ids. It is read once for its hash (of the ids as uint16) and its largest id, later as needed. */
async function openTokens(corpus: TokenCorpus, options: DatasetOptions): Promise<Parts> {
  const { layout } = corpus;
  const [file] = corpus.files;
  const hash = createHash('sha256');
  let maxId = 0;
  let before = 0;
  const range = { file, start: layout.start, end: file.bytes };
  for await (const { bytes } of chunksOf(range, CHUNK_BYTES, 'tokens')) {
    const ids = narrowIds(bytes, layout.dtype, (id, at) => {
      throw beyondVocabulary(`${corpus.name} (${layout.name})`, id, before + at, vocabularyOf(options));
    });
    hash.update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
    maxId = largest(ids, maxId);
    before += ids.length;
  }
  const split = Math.floor((1 - options.valRatio) * layout.tokens);
  const common = { hash: hash.digest('hex'), maxId };
  const fd = openForReading(file);
  const all = fileTokens(fd, file, layout);
  if (file.bytes > (options.inMemoryBytes ?? IN_MEMORY_BYTES)) {
    const [training, validation] = [tokenRange(all, 0, split), tokenRange(all, split, layout.tokens)];
    return { ...common, training, validation, close: () => closeSync(fd) };
  }
  try {
    const ids = all.read(0, layout.tokens);
    const [training, validation] = [memoryTokens(ids.subarray(0, split)), memoryTokens(ids.subarray(split))];
    return { ...common, training, validation, close: () => {} };
  } finally {
    closeSync(fd);
  }
}

function vocabularyOf({ vocabSize, tokenizer }: DatasetOptions): number {
  return vocabSize ?? tokenizer.vocabSize;
}

/** Throws LT_DATA_TOKEN, with the first id that is not below `vocabSize` and its position. */
function checkVocabulary({ training, validation, maxId }: TokenCache, corpus: Corpus, vocabSize: number): void {
  if (maxId < vocabSize) return;
  let before = 0;
  for (const source of [training, validation]) {
    for (let start = 0; start < source.length; start += CHUNK_BYTES) {
      const ids = source.read(start, Math.min(CHUNK_BYTES, source.length - start));
      const at = ids.findIndex((id) => id >= vocabSize);
      if (at < 0) continue;
      throw beyondVocabulary(corpus.name, ids[at], before + start + at, vocabSize);
    }
    before += source.length;
  }
}

/** Ids have 16 bits everywhere except in files. */
function beyondVocabulary(name: string, id: number, position: number, vocabSize: number): LantrainError {
  const ids = Math.min(vocabSize, 2 ** 16);
  const limit =
    ids < vocabSize
      ? `lantrain reads ids of 16 bits (0 to ${ids - 1})`
      : `the vocabulary has ${ids} ids (0 to ${ids - 1})`;
  return new LantrainError(
    'LT_DATA_TOKEN',
    `${name} has token id ${id} at position ${position}, but ${limit}: use the tokenizer that the model was made for, or other data`,
  );
}
