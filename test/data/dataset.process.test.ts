import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { resolveCorpus } from '../../src/data/corpus.js';
import { type Dataset, type DatasetOptions, openDataset } from '../../src/data/dataset.js';
import { chunksOf, scanText, tokenIds } from '../../src/data/text.js';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.js';
import { awkwardText, expectFailure, folderWith } from './helpers.js';

const gpt2 = await loadTokenizer('gpt2');
const bytes = await loadTokenizer('bytes');

async function open(options: Partial<DatasetOptions> & { source: string }): Promise<Dataset> {
  const dataset = await openDataset({ tokenizer: bytes, valRatio: 0.1, ...options });
  onTestFinished(() => dataset.close());
  return dataset;
}

const idsOf = ({ train, validation }: Dataset) => [
  [...train.read(0, train.length)],
  [...validation.read(0, validation.length)],
];

/** The expected ids of these documents, computed on whole strings of code points. */
function expectedIds(documents: string[], tokenizer: Tokenizer, valRatio: number): number[][] {
  const characters = documents.map((text) => [...text]);
  const split = Math.floor((1 - valRatio) * characters.flat().length);
  const parts: string[][] = [[], []];
  let before = 0;
  for (const document of characters) {
    const at = Math.min(Math.max(split - before, 0), document.length);
    parts[0].push(document.slice(0, at).join(''));
    parts[1].push(document.slice(at).join(''));
    before += document.length;
  }
  return parts.map((texts) => tokenizer.encode(texts.filter(Boolean).join(tokenizer.documentSeparator)));
}

function documentFolder(documents: string[]): string {
  return folderWith(Object.fromEntries(documents.map((text, i) => [`${String(i).padStart(3, '0')}.txt`, text])));
}

const sumOf = async (ids: AsyncIterable<number[]>) => {
  const all: number[] = [];
  for await (const piece of ids) all.push(...piece);
  return all;
};

describe('a text dataset', () => {
  test('a text dataset holds Moby-Dick, the last tenth of its characters as validation, each part tokenized alone', async () => {
    const text = [...readFileSync((await resolveCorpus('moby-dick')).files[0].path, 'utf8')];
    const split = Math.trunc(0.9 * text.length);
    const dataset = await open({ source: 'moby-dick', tokenizer: gpt2 });
    const [train, validation] = idsOf(dataset);
    expect(train).toEqual(gpt2.encode(text.slice(0, split).join('')));
    expect(validation).toEqual(gpt2.encode(text.slice(split).join('')));
    expect(dataset.tokens).toBe(train.length + validation.length);
    expect(dataset.description).toContain('moby-dick: 1,204,997 bytes');
  });

  test('a text dataset splits by characters, not by bytes or UTF-16 units, and rounds as Python does', async () => {
    const source = join(folderWith({ 'x.txt': 'é😀aé😀aé😀ab' }), 'x.txt');
    const [train, validation] = idsOf(await open({ source, valRatio: 0.25 }));
    expect(bytes.decode(train)).toBe('é😀aé😀aé');
    expect(bytes.decode(validation)).toBe('😀ab');
  });

  test('a text dataset without validation has an empty validation part', async () => {
    const dataset = await open({ source: join(folderWith({ 'x.txt': 'abc' }), 'x.txt'), valRatio: 0 });
    expect([dataset.train.length, dataset.validation.length]).toEqual([3, 0]);
    expect(() => dataset.train.read(2, 2)).toThrow(RangeError);
    expect([...dataset.validation.read(0, 0)]).toEqual([]);
  });

  test('a text dataset puts <|endoftext|> or a newline between documents, never at an end or inside the split', async () => {
    const source = documentFolder(['one', 'two', 'three!']);
    const [train, validation] = idsOf(await open({ source, valRatio: 0.5 }));
    expect([bytes.decode(train), bytes.decode(validation)]).toEqual(['one\ntwo', 'three!']);
    const [all] = idsOf(await open({ source, valRatio: 0, tokenizer: gpt2 }));
    expect(gpt2.decode(all)).toBe('one<|endoftext|>two<|endoftext|>three!');
    expect(all.filter((id) => id === 50256)).toHaveLength(2);
  });

  test.each([gpt2, bytes])('a text dataset read in small pieces has the ids of the whole: $name', async (tokenizer) => {
    const piece = fc.integer({ min: 2, max: 24 }).map((n) => 2 * n);
    await fc.assert(
      fc.asyncProperty(
        fc.array(awkwardText, { minLength: 1, maxLength: 4 }),
        fc.nat(99),
        piece,
        async (texts, percent, chunk) => {
          fc.pre(texts.some(Boolean));
          const corpus = await resolveCorpus(documentFolder(texts));
          const scan = await scanText(corpus, tokenizer, percent / 100, chunk);
          const wholeScan = await scanText(corpus, tokenizer, percent / 100);
          const got = [scan.training, scan.validation].map((ranges) =>
            sumOf(tokenIds(ranges, tokenizer, undefined, chunk)),
          );
          expect(await Promise.all(got)).toEqual(expectedIds(texts, tokenizer, percent / 100));
          expect(scan).toEqual(wholeScan);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('a text dataset without any place to cut is read in bounded memory all the same', async () => {
    const text = 'ACGTTGA'.repeat(400_000);
    const { files } = await resolveCorpus(join(folderWith({ 'x.txt': text }), 'x.txt'));
    const pieces: string[] = [];
    for await (const ids of tokenIds([{ file: files[0], start: 0, end: text.length }], gpt2))
      pieces.push(gpt2.decode(ids));
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(2 << 20);
    expect(pieces.join('')).toBe(text);
  });

  test('a text dataset has a hash of its bytes, its documents and its tokenizer, and of no name', async () => {
    const hashOf = async (files: Record<string, string>, tokenizer = bytes) =>
      (await open({ source: folderWith(files), tokenizer })).hash;
    const hash = await hashOf({ 'a.txt': 'one', 'b.txt': 'two' });
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf({ 'x/a.txt': 'one', 'x/b.txt': 'two' })).toBe(hash);
    expect(await hashOf({ 'a.txt': 'onet', 'b.txt': 'wo' })).not.toBe(hash);
    expect(await hashOf({ 'a.txt': 'two', 'b.txt': 'one' })).not.toBe(hash);
    expect(await hashOf({ 'a.txt': 'one', 'b.txt': 'two' }, gpt2)).not.toBe(hash);
  });

  test('a text dataset that is no UTF-8 is refused with the first bad byte', async () => {
    const folder = folderWith({
      'latin1.txt': Buffer.concat([Buffer.from('naïve '), Buffer.from('caf\xe9!', 'latin1')]),
      'cut.txt': Buffer.from('ab😀').subarray(0, 5),
      'utf16.txt': Buffer.from('\ufeffhello', 'utf16le'),
    });
    const failure = (name: string, ...parts: (string | number)[]) =>
      expectFailure(() => open({ source: join(folder, name) }), 'LT_DATA_CORRUPT', name, 'not UTF-8', ...parts);
    await failure('latin1.txt', 'byte 10 ');
    await failure('cut.txt', 'byte 2 ');
    await failure('utf16.txt', 'byte 0 ');
    const corpus = await resolveCorpus(join(folder, 'latin1.txt'));
    await expectFailure(() => scanText(corpus, bytes, 0, 4), 'LT_DATA_CORRUPT', 'byte 10 ');
  });

  test('a text dataset with an id beyond the vocabulary is refused with id, position and vocabulary', async () => {
    const source = join(folderWith({ 'x.txt': 'abc~def' }), 'x.txt');
    const parts = ['x.txt', 'id 126 ', 'position 3,', '120 ids'];
    await expectFailure(() => open({ source, vocabSize: 120 }), 'LT_DATA_TOKEN', ...parts);
    await expectFailure(() => open({ source, vocabSize: 120, valRatio: 0.8 }), 'LT_DATA_TOKEN', ...parts);
    expect((await open({ source, vocabSize: 127 })).tokens).toBe(7);
  });

  test('a text dataset that changes while it is read is refused', async () => {
    const source = join(folderWith({ 'x.txt': 'abcdefgh' }), 'x.txt');
    const corpus = await resolveCorpus(source);
    const read = async () => {
      for await (const { offset } of chunksOf({ file: corpus.files[0], start: 0, end: 8 }, 4)) {
        if (offset === 0) utimesSync(source, new Date(0), new Date(0));
      }
    };
    await expectFailure(read, 'LT_DATA_CORRUPT', source, 'changed while');
    writeFileSync(source, 'shorter');
    await expectFailure(() => scanText(corpus, bytes, 0), 'LT_DATA_CORRUPT', source, 'changed while');
  });

  test('a text dataset with a ratio out of [0, 1) is refused', async () => {
    await expectFailure(() => open({ source: 'moby-dick', valRatio: 1 }), 'LT_USAGE_OPTION', '--val-ratio');
    await expectFailure(() => open({ source: 'moby-dick', valRatio: Number.NaN }), 'LT_USAGE_OPTION', '--val-ratio');
  });
});

/** A cache as 0.1.0 wrote it: without a hash of its ids. */
function oldFormatOf(cache: Buffer): Buffer {
  const { idsHash, mark, ...fields } = JSON.parse(cache.subarray(0, 4096).toString());
  expect(idsHash).toMatch(/^[0-9a-f]{64}$/);
  expect(mark).not.toBe('');
  const head = JSON.stringify({ ...fields, magic: 'lantrain tokens 1' }).padEnd(4096);
  return Buffer.concat([Buffer.from(head), cache.subarray(4096)]);
}

describe('a token cache', () => {
  const text = 'Call me Ishmael. Some years ago—never mind how long precisely. '.repeat(400);

  async function bigText() {
    const cacheDir = folderWith();
    const source = join(folderWith({ 'x.txt': text }), 'x.txt');
    const progress: number[][] = [];
    const onProgress = (done: number, total: number) => progress.push([done, total]);
    const notes: string[] = [];
    const onNote = (line: string) => notes.push(line);
    const reopen = (more: Partial<DatasetOptions> = {}) =>
      open({ source, cacheDir, tokenizer: gpt2, inMemoryBytes: 0, onProgress, onNote, ...more });
    const cachePath = () => join(cacheDir, readdirSync(cacheDir)[0]);
    return { source, cacheDir, progress, notes, reopen, cachePath };
  }

  test('a token cache gives what memory gives, and is written once', async () => {
    const { source, cacheDir, progress, reopen, cachePath } = await bigText();
    const inMemory = await open({ source, tokenizer: gpt2 });
    const first = await reopen();
    expect(idsOf(first)).toEqual(idsOf(inMemory));
    expect(first.hash).toBe(inMemory.hash);
    expect(progress.at(-1)).toEqual([statSync(source).size, statSync(source).size]);
    const written = statSync(cachePath());
    progress.length = 0;
    expect(idsOf(await reopen())).toEqual(idsOf(inMemory));
    expect(progress).toEqual([]);
    expect(statSync(cachePath()).ino).toBe(written.ino);
    expect([...first.train.read(5, 3)]).toEqual([...inMemory.train.read(5, 3)]);
    expect(() => first.train.read(first.train.length - 1, 2)).toThrow(RangeError);
    expect(readdirSync(cacheDir)).toHaveLength(1);
  });

  test('a token cache is one of its text, tokenizer and split', async () => {
    const { source, cacheDir, reopen } = await bigText();
    await reopen();
    await reopen({ tokenizer: bytes });
    await reopen({ valRatio: 0.2 });
    expect(readdirSync(cacheDir)).toHaveLength(3);
    appendFileSync(source, 'The end.');
    const changed = await reopen({ valRatio: 0 });
    expect(gpt2.decode(idsOf(changed)[0])).toBe(`${text}The end.`);
  });

  test('a token cache that is cut off, damaged, changed or of another text is built anew, which is said in one line', async () => {
    const { progress, notes, reopen, cachePath } = await bigText();
    const expected = idsOf(await reopen());
    const whole = readFileSync(cachePath());
    const inHead = (from: string, to: string) => () =>
      writeFileSync(cachePath(), whole.toString('latin1').replace(from, to), 'latin1');
    const changed = (at: number) => () => {
      const bytes = Buffer.from(whole);
      bytes[at] ^= 1;
      writeFileSync(cachePath(), bytes);
    };
    const damages = [
      () => truncateSync(cachePath(), whole.length - 2),
      () => truncateSync(cachePath(), 100),
      () => writeFileSync(cachePath(), ''),
      () => appendFileSync(cachePath(), 'xx'),
      inHead('"hash":"', '"hash":"0'),
      inHead('lantrain tokens 2', 'lantrain tokens 0'),
      inHead('"maxId":', '"maxId":1'),
      inHead('"trainingTokens":', '"trainingTokens":1'),
      changed(4096),
      changed(whole.length - 1),
      changed(whole.length >> 1),
      () => writeFileSync(cachePath(), oldFormatOf(whole)),
    ];
    for (const damage of damages) {
      damage();
      [progress.length, notes.length] = [0, 0];
      expect(idsOf(await reopen())).toEqual(expected);
      expect(progress.length).toBeGreaterThan(0);
      expect(notes).toEqual([expect.stringMatching(/^the token cache .*\.tokens is made again: it(s ids)? [^\n]*$/)]);
      expect(readFileSync(cachePath()).equals(whole)).toBe(true);
    }
  });

  test('a token cache that somebody else wrote, with a hash that fits, is built anew', async () => {
    const { notes, reopen, cachePath } = await bigText();
    const states = folderWith();
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv('LANTRAIN_STATE', join(states, 'sender'));
    const sent = idsOf(await reopen());
    expect(idsOf(await reopen())).toEqual(sent);
    expect(notes).toEqual([]);
    vi.stubEnv('LANTRAIN_STATE', join(states, 'receiver'));
    const theirs = readFileSync(cachePath());
    expect(idsOf(await reopen())).toEqual(sent);
    expect(notes).toEqual([expect.stringMatching(/made again: it was not written by this user on this machine$/)]);
    expect(readFileSync(cachePath()).equals(theirs)).toBe(false);
    idsOf(await reopen());
    expect(notes).toHaveLength(1);
  });

  test('a token cache is of use to a user without a place for a key, though only once', async () => {
    const { progress, notes, reopen } = await bigText();
    onTestFinished(() => void vi.unstubAllEnvs());
    vi.stubEnv('LANTRAIN_STATE', join(folderWith({ file: '' }), 'file', 'state'));
    const expected = idsOf(await reopen());
    expect(notes).toEqual([]);
    progress.length = 0;
    expect(idsOf(await reopen())).toEqual(expected);
    expect(progress.length).toBeGreaterThan(0);
    expect(notes).toHaveLength(1);
  });

  test('a token cache that is a pipe, or a link to a device, is built anew', async () => {
    const { notes, reopen, cachePath } = await bigText();
    const expected = idsOf(await reopen());
    for (const put of [
      (path: string) => execFileSync('mkfifo', [path]),
      (path: string) => symlinkSync('/dev/zero', path),
    ]) {
      const path = cachePath();
      rmSync(path);
      put(path);
      expect(idsOf(await reopen())).toEqual(expected);
      expect(lstatSync(path).isFile()).toBe(true);
    }
    expect(notes).toHaveLength(2);
    expect(notes[0]).toMatch(/it cannot be read: it is a pipe/);
  });

  test('a token cache can be written by nobody else', async () => {
    const { reopen, cachePath } = await bigText();
    await reopen();
    expect(statSync(cachePath()).mode & 0o077).toBe(0);
  });

  test('a token cache of ids beyond the vocabulary is refused as text in memory is, new or old', async () => {
    const { reopen } = await bigText();
    const { reopen: reopenOther } = await bigText();
    const inMemory = await expectFailure(() => reopen({ vocabSize: 500, inMemoryBytes: 1e9 }), 'LT_DATA_TOKEN');
    const place = inMemory.message.slice(inMemory.message.indexOf('has token id'));
    await expectFailure(() => reopenOther({ vocabSize: 500 }), 'LT_DATA_TOKEN', place);
    await expectFailure(() => reopenOther({ vocabSize: 500 }), 'LT_DATA_TOKEN', place);
  });
});

describe('a .bin dataset', () => {
  const ids = Uint16Array.from({ length: 101 }, (_, i) => (i * 977) % 50_257);
  const file = Buffer.from(ids.buffer);

  test.each([0, 1e9])('a .bin file is split by tokens, in memory and not (up to %d bytes)', async (inMemoryBytes) => {
    const source = join(folderWith({ 'x.bin': file }), 'x.bin');
    const dataset = await open({ source, tokenizer: gpt2, inMemoryBytes });
    expect(idsOf(dataset)).toEqual([[...ids.subarray(0, 90)], [...ids.subarray(90)]]);
    expect([...dataset.validation.read(1, 2)]).toEqual([...ids.subarray(91, 93)]);
    expect(dataset.hash).toBe(createHash('sha256').update(file).digest('hex'));
    expect((await open({ source, tokenizer: gpt2, valRatio: 0, inMemoryBytes })).validation.length).toBe(0);
  });

  test('a .bin dataset with an id beyond the vocabulary is refused with id, position and vocabulary', async () => {
    const source = join(folderWith({ 'x.bin': Buffer.from(Uint16Array.of(1, 2, 50_257, 60_000).buffer) }), 'x.bin');
    for (const inMemoryBytes of [0, 1e9]) {
      await expectFailure(
        () => open({ source, tokenizer: gpt2, inMemoryBytes, valRatio: 0.5 }),
        'LT_DATA_TOKEN',
        'x.bin',
        'id 50257 ',
        'position 2,',
        'the vocabulary has 50257',
      );
    }
    expect((await open({ source, tokenizer: gpt2, vocabSize: 65_536 })).tokens).toBe(4);
  });
});
