import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { cacheFolder, writeCacheFile } from '../../src/data/cache-folder.js';
import { download, resolveCorpus } from '../../src/data/corpus.js';
import { expectFailure, folderWith } from './helpers.js';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
});

describe('a corpus', () => {
  test('the corpus called moby-dick is the embedded text', async () => {
    const corpus = await resolveCorpus('moby-dick');
    expect(corpus.kind).toBe('text');
    expect(corpus.bytes).toBe(1_204_997);
    expect(readFileSync(corpus.files[0].path, 'utf8').startsWith('CHAPTER 1. Loomings.')).toBe(true);
    expect(createHash('sha256').update(readFileSync(corpus.files[0].path)).digest('hex')).toBe(
      'fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240',
    );
  });

  test('the corpus called moby-dick is refused where one byte of the embedded text differs', async () => {
    const folder = folderWith({ 'package.json': '{"type":"module","imports":{"#moby-dick":"./text"}}', text: 'x' });
    cpSync(resolve(import.meta.dirname, '../../src'), join(folder, 'src'), { recursive: true });
    const text = readFileSync(join(folder, 'src/data/moby-dick.txt'));
    text[text.length - 1] ^= 1;
    writeFileSync(join(folder, 'text'), text);
    const { resolveCorpus: ofCopy } = await import(pathToFileURL(join(folder, 'src/data/corpus.ts')).href);
    await expect(ofCopy('moby-dick')).rejects.toMatchObject({
      code: 'LT_DATA_CORRUPT',
      message: expect.stringContaining('is not the text that comes with lantrain'),
    });
  });

  test('a corpus by a path is that file, even where a named corpus has its name', async () => {
    const folder = folderWith({ 'moby-dick': 'mine', verdict: 'mine too' });
    expect((await resolveCorpus(join(folder, 'moby-dick'))).bytes).toBe(4);
    expect((await resolveCorpus(`./${relative(process.cwd(), join(folder, 'verdict'))}`)).bytes).toBe(8);
  });

  test('a corpus from a folder has its text files at any depth in the same order everywhere', async () => {
    const folder = folderWith({
      'b.txt': 'b',
      'B.md': 'B',
      'a/z.TXT': 'az',
      'a/é.txt': 'e',
      'a.txt': 'a',
      'a/b/c.markdown': 'abc',
      'a-b.text': 'a-b',
      'ignored.json': '{}',
      'tokens.bin': 'xx',
      'empty.txt': '',
      '.hidden.txt': 'h',
      '.git/x.txt': 'g',
    });
    const corpus = await resolveCorpus(folder);
    const names = corpus.files.map((file) => relative(folder, file.path).replaceAll('\\', '/'));
    expect(names).toEqual(['B.md', 'a-b.text', 'a.txt', 'a/b/c.markdown', 'a/z.TXT', 'a/é.txt', 'b.txt']);
    expect(corpus.bytes).toBe(12);
  });

  test('a corpus that is not there, or has no text in it, is refused', async () => {
    const folder = folderWith({ 'a.json': '{}', 'empty.txt': '' });
    const nothing = folderWith({ 'a.json': '{}' });
    const gone = join(folder, 'gone.txt');
    await expectFailure(() => resolveCorpus(gone), 'LT_DATA_MISSING', gone, 'no file or folder', 'moby-dick');
    await expectFailure(() => resolveCorpus(join(folder, 'a.json', 'b')), 'LT_DATA_MISSING', 'no file or folder');
    await expectFailure(() => resolveCorpus(nothing), 'LT_DATA_MISSING', nothing, 'no text files', '.txt');
    await expectFailure(() => resolveCorpus(folder), 'LT_DATA_EMPTY', folder, 'is empty');
    await expectFailure(() => resolveCorpus(join(folder, 'empty.txt')), 'LT_DATA_EMPTY', 'empty.txt');
  });

  test.skipIf(process.platform === 'win32')('an unreadable corpus is refused with what the system says', async () => {
    const folder = folderWith();
    symlinkSync('loop.txt', join(folder, 'loop.txt'));
    const loop = join(folder, 'loop.txt');
    await expectFailure(() => resolveCorpus(loop), 'LT_DATA_MISSING', `cannot read ${loop}`, 'too many symbolic links');
    await expectFailure(() => resolveCorpus('/dev/null'), 'LT_DATA_MISSING', 'neither a file nor a folder');
  });

  test('a corpus of token ids must have an even number of bytes, and some', async () => {
    const folder = folderWith({ 'odd.bin': 'abc', 'empty.bin': '', 'good.bin': 'abcd' });
    await expectFailure(() => resolveCorpus(join(folder, 'odd.bin')), 'LT_DATA_CORRUPT', 'odd.bin', '3 bytes');
    await expectFailure(() => resolveCorpus(join(folder, 'empty.bin')), 'LT_DATA_EMPTY', 'empty.bin');
    expect((await resolveCorpus(join(folder, 'good.bin'))).kind).toBe('tokens');
  });
});

describe('a download', () => {
  const text = 'a text worth having\n';
  const wanted = {
    url: 'https://example.invalid/text.txt',
    sha256: createHash('sha256').update(text).digest('hex'),
    file: 'text.txt',
  };
  const answer = (body: string, status = 200) => vi.fn(async () => new Response(body, { status }));

  test('a download happens once, and again when the file in the cache is not the right one', async () => {
    const cache = join(folderWith(), 'not', 'there', 'yet');
    const fetched = answer(text);
    vi.stubGlobal('fetch', fetched);
    const path = await download(wanted, cache);
    expect(readFileSync(path, 'utf8')).toBe(text);
    expect(await download(wanted, cache)).toBe(path);
    expect(fetched).toHaveBeenCalledTimes(1);
    writeFileSync(path, text.slice(1));
    await download(wanted, cache);
    expect(fetched).toHaveBeenCalledTimes(2);
    expect(readFileSync(path, 'utf8')).toBe(text);
    expect(readdirSync(cache)).toEqual(['text.txt']);
  });

  test('a download that fails says why and what to do by hand, and leaves nothing', async () => {
    const cache = folderWith();
    const offline = Object.assign(new Error('getaddrinfo ENOTFOUND example.invalid'), { code: 'ENOTFOUND' });
    vi.stubGlobal(
      'fetch',
      vi.fn(async () => Promise.reject(new TypeError('fetch failed', { cause: offline }))),
    );
    const byHand = [wanted.url, 'by hand', '--data'];
    await expectFailure(() => download(wanted, cache), 'LT_DATA_DOWNLOAD', 'ENOTFOUND', ...byHand);
    await expectFailure(() => resolveCorpus('verdict', cache), 'LT_DATA_DOWNLOAD', 'the-verdict.txt', 'by hand');
    vi.stubGlobal('fetch', answer('gone', 404));
    await expectFailure(() => download(wanted, cache), 'LT_DATA_DOWNLOAD', '404', ...byHand);
    vi.stubGlobal('fetch', answer('<html>log in to this network</html>'));
    await expectFailure(() => download(wanted, cache), 'LT_DATA_DOWNLOAD', 'not the expected file', ...byHand);
    expect(readdirSync(cache)).toEqual([]);
  });
});

describe('the cache folder', () => {
  test("the cache folder is $LANTRAIN_CACHE, else in $XDG_CACHE_HOME, else the platform's own", () => {
    vi.stubEnv('LANTRAIN_CACHE', '/one');
    vi.stubEnv('XDG_CACHE_HOME', '/two');
    expect(cacheFolder()).toBe('/one');
    vi.stubEnv('LANTRAIN_CACHE', '');
    expect(cacheFolder()).toBe(join('/two', 'lantrain'));
    vi.stubEnv('XDG_CACHE_HOME', '');
    expect(cacheFolder()).toMatch(/lantrain$/);
  });

  test('the cache folder gets whole files or none, and is rid of what a killed process left', async () => {
    const folder = folderWith({
      'x.tokens.0123.tmp': 'old',
      'x.tokens.4567.tmp': 'being written',
      'y.tokens.89.tmp': 'y',
    });
    utimesSync(join(folder, 'x.tokens.0123.tmp'), new Date(0), new Date(0));
    utimesSync(join(folder, 'y.tokens.89.tmp'), new Date(0), new Date(0));
    const failure = writeCacheFile(join(folder, 'x.tokens'), (fd) => {
      writeFileSync(fd, 'half');
      throw new Error('stop');
    });
    await expect(failure).rejects.toThrow('stop');
    expect(readdirSync(folder).sort()).toEqual(['x.tokens.4567.tmp', 'y.tokens.89.tmp']);
    await writeCacheFile(join(folder, 'x.tokens'), (fd) => writeFileSync(fd, 'whole'));
    expect(readFileSync(join(folder, 'x.tokens'), 'utf8')).toBe('whole');
  });

  test('a cache folder that cannot be written is an error that names LANTRAIN_CACHE', async () => {
    const folder = folderWith({ file: 'in the way' });
    const path = join(folder, 'file', 'x.tokens');
    await expectFailure(() => writeCacheFile(path, () => {}), 'LT_RUN_WRITE', path, 'LANTRAIN_CACHE');
    mkdirSync(join(folder, 'z'));
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    const writeToFull = writeCacheFile.bind(null, join(folder, 'z', 'x'), () => Promise.reject(full));
    await expectFailure(writeToFull, 'LT_RUN_WRITE', 'no space left on device (ENOSPC);');
    expect(existsSync(join(folder, 'z', 'x'))).toBe(false);
  });
});
