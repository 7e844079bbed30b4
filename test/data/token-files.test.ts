import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { resolveCorpus } from '../../src/data/corpus.js';
import { type Dataset, type DatasetOptions, openDataset } from '../../src/data/dataset.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { expectFailure, folderWith } from './helpers.js';

const gpt2 = await loadTokenizer('gpt2');
const bytes = await loadTokenizer('bytes');

async function open(source: string, options: Partial<DatasetOptions> = {}): Promise<Dataset> {
  const dataset = await openDataset({ source, tokenizer: gpt2, valRatio: 0.1, ...options });
  onTestFinished(() => dataset.close());
  return dataset;
}

const idsOf = ({ train, validation }: Dataset) => [
  ...train.read(0, train.length),
  ...validation.read(0, validation.length),
];

const IDS = Array.from({ length: 201 }, (_, i) => (i * 977) % 50_257);
const uint16 = (ids: number[]) => Buffer.from(Uint16Array.from(ids).buffer);
const uint32 = (ids: number[]) => Buffer.from(Uint32Array.from(ids).buffer);
const int64 = (ids: number[]) => Buffer.from(BigInt64Array.from(ids, BigInt).buffer);

/** As numpy.save writes it: the header is padded so that the data begins at a multiple of 64 bytes. */
function npy(data: Buffer, descr: string, shape: string, order = 'False', version = 1): Buffer {
  const dict = `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const before = version === 1 ? 10 : 12;
  const header = dict.padEnd(64 * Math.ceil((before + dict.length + 1) / 64) - before - 1).concat('\n');
  const length = Buffer.alloc(before - 8);
  if (version === 1) length.writeUInt16LE(header.length);
  else length.writeUInt32LE(header.length);
  return Buffer.concat([
    Buffer.from(`\x93NUMPY${String.fromCharCode(version)}\0`, 'latin1'),
    length,
    Buffer.from(header),
    data,
  ]);
}

function llmc(data: Buffer, magic: number, version: number, tokens: number): Buffer {
  const header = Buffer.alloc(1024);
  [magic, version, tokens].forEach((value, i) => void header.writeInt32LE(value, 4 * i));
  return Buffer.concat([header, data]);
}

const fileOf = (content: Uint8Array, name = 'x.bin') => join(folderWith({ [name]: content }), name);

describe('a token file of another layout', () => {
  const n = IDS.length;
  test.each<[string, string, Buffer, string]>([
    ['uint32', 'x.bin', uint32(IDS), 'stored as uint32'],
    ['int64', 'x.bin', int64(IDS), 'stored as int64'],
    ["numpy's uint16", 'x.npy', npy(uint16(IDS), "'<u2'", `(${n},)`), 'numpy uint16'],
    ["numpy's uint16, called .bin", 'x.bin', npy(uint16(IDS), "'<u2'", `(${n},)`), 'numpy uint16'],
    ["numpy's uint32, called .txt", 'x.txt', npy(uint32(IDS), "'<u4'", `(${n},)`), 'numpy uint32'],
    [
      "numpy's int32 in a header of version 2",
      'x.npy',
      npy(uint32(IDS), "'<i4'", `(${n},)`, 'False', 2),
      'numpy int32',
    ],
    ["numpy's int64", 'x.npy', npy(int64(IDS), "'<i8'", `(${n},)`), 'numpy int64'],
    ["numpy's of Python 2", 'x.npy', npy(uint16(IDS), "'<u2'", `(${n}L,)`), 'numpy uint16'],
    ["llm.c's for GPT-2", 'x.bin', llmc(uint16(IDS), 20240520, 1, n), 'llm.c uint16'],
    ["llm.c's for Llama 3", 'x.bin', llmc(uint32(IDS), 20240801, 7, n), 'llm.c uint32'],
  ])('a token file of any layout has the ids it holds, in memory and not: %s', async (_, name, content, layout) => {
    const source = fileOf(content, name);
    const plain = await open(fileOf(uint16(IDS)));
    for (const inMemoryBytes of [0, 1e9]) {
      const dataset = await open(source, { inMemoryBytes });
      expect(idsOf(dataset)).toEqual(IDS);
      expect([dataset.train.length, dataset.validation.length]).toEqual([180, 21]);
      expect([...dataset.validation.read(3, 4)]).toEqual(IDS.slice(183, 187));
      expect(() => dataset.train.read(179, 2)).toThrow(RangeError);
      // A run may be resumed with the same ids in another layout.
      expect(dataset.hash).toBe(plain.hash);
      expect(dataset.description).toContain(`(${layout})`);
    }
  });

  const u2 = uint16(IDS);
  test.each<[string, Buffer, ...string[]]>([
    ['floats', npy(Buffer.alloc(4 * n), "'<f4'", `(${n},)`), "dtype '<f4'", '<u2, <u4, <i4, <i8', 'numpy.save'],
    ['big-endian', npy(u2, "'>u2'", `(${n},)`), "dtype '>u2'"],
    ['bytes', npy(Buffer.alloc(n), "'|u1'", `(${n},)`), "dtype '|u1'"],
    ['records', npy(u2, "[('id', '<u2')]", `(${n},)`), 'records'],
    ['a table', npy(u2, "'<u2'", '(3, 67)'), '2 dimensions'],
    ['a single number', npy(Buffer.alloc(2), "'<u2'", '()'), '0 dimensions'],
    ['Fortran order', npy(u2, "'<u2'", `(${n},)`, 'True'), 'Fortran order'],
    ['cut off', npy(u2, "'<u2'", `(${n},)`).subarray(0, 500), 'is cut off', `${n} ids of numpy uint16`, 'ends at 500'],
    ['with more behind it', npy(Buffer.concat([u2, u2]), "'<u2'", `(${n},)`), 'bytes too many'],
    ['cut off in its header', npy(u2, "'<u2'", `(${n},)`).subarray(0, 60), 'cut off in its header'],
    ['with a header of something else', npy(u2, "'<u2'", `(${n},)`).fill('?', 10, 60), 'damaged header'],
  ])('an unfit token file of numpy is refused by name: %s', async (_, content, ...parts) => {
    for (const name of ['x.npy', 'x.bin'])
      await expectFailure(() => open(fileOf(content, name)), 'LT_DATA_CORRUPT', name, 'numpy', ...parts);
  });

  test('a token file of llm.c is refused by name where it is cut off, of another version or no token file', async () => {
    const refused = (content: Buffer, ...parts: string[]) =>
      expectFailure(() => open(fileOf(content), { vocabSize: 65_536 }), 'LT_DATA_CORRUPT', 'x.bin', ...parts);
    await refused(llmc(u2, 20240520, 1, n + 5), 'is cut off', `${n + 5} ids`);
    await refused(llmc(u2, 20240520, 3, n), 'llm.c of version 3', 'version 1');
    await refused(llmc(u2, 20240326, 5, 1024), 'a model of llm.c');
    await expectFailure(() => open(fileOf(llmc(Buffer.alloc(0), 20240520, 1, 0))), 'LT_DATA_EMPTY', '0 ids');
  });

  test('a token file with an id that no vocabulary of 16 bits has is refused with the id and its place', async () => {
    const at = (i: number, id: number) => IDS.map((other, j) => (j === i ? id : other));
    const refused = (content: Buffer, name: string, ...parts: (string | number)[]) =>
      expectFailure(() => open(fileOf(content, name)), 'LT_DATA_TOKEN', name, ...parts, 'vocabulary has 50257');
    await refused(uint32(at(7, 128_000)), 'x.bin', 'uint32', 'id 128000 at position 7,');
    await refused(int64(at(9, 65_537)), 'x.bin', 'int64', 'id 65537 at position 9,');
    await refused(npy(int64(at(2, -100)), "'<i8'", `(${n},)`), 'x.npy', 'id -100 at position 2,');
    await refused(npy(uint32(at(2, -1)), "'<i4'", `(${n},)`), 'x.npy', 'id -1 at position 2,');
    const beyond = fileOf(npy(uint32(at(2, 70_000)), "'<u4'", `(${n},)`), 'x.npy');
    await expectFailure(
      () => open(beyond, { vocabSize: 128_256 }),
      'LT_DATA_TOKEN',
      'id 70000',
      '16 bits (0 to 65535)',
    );
  });

  test('a token file that could be of two layouts is refused with a way to say which', async () => {
    const letters = Array.from({ length: 100 }, (_, i) => 97 + (i % 26));
    const refused = (content: Buffer, ...parts: string[]) =>
      expectFailure(() => open(fileOf(content), { tokenizer: bytes }), 'LT_DATA_CORRUPT', 'x.bin', ...parts, '.npy');
    await refused(uint32(letters), 'uint32', 'every second', 'uint16');
    await refused(int64(letters), 'int64', 'three of four');
    await refused(uint32(letters).swap32(), 'uint32, big-endian');
    await refused(Buffer.concat([uint32(IDS), Buffer.alloc(2)]), 'uint32');
    const said = await open(fileOf(npy(uint32(letters), "'<u4'", '(100,)'), 'x.npy'), { tokenizer: bytes });
    expect(idsOf(said)).toEqual(letters);
  });
});

test('ids called .txt are refused with the name that they need', async () => {
  for (const content of [uint16(IDS), uint32(IDS), int64(IDS)])
    await expectFailure(() => open(fileOf(content, 'x.txt')), 'LT_DATA_CORRUPT', 'x.txt', 'call it .bin');
});

test('a folder of token files says that one of them is wanted', async () => {
  const folder = folderWith({ 'train.bin': uint16(IDS), 'val.bin': uint16(IDS), 'meta.pkl': 'x' });
  await expectFailure(
    () => open(folder),
    'LT_DATA_MISSING',
    folder,
    'no text files',
    'train.bin',
    'one file of token ids',
  );
});

describe('a .bin of uint16 ids is never taken for another', () => {
  const layoutOf = async (content: Uint8Array) => {
    const corpus = await resolveCorpus(fileOf(content));
    return corpus.kind === 'tokens' ? corpus.layout : undefined;
  };
  const plain = (ids: number) => ({ dtype: 'uint16', start: 0, tokens: ids, name: 'stored' });

  test.each<[string, number[]]>([
    ['zeros', new Array(500).fill(0)],
    ['four letters', Array.from({ length: 4000 }, (_, i) => (i * i * 7 + (i >> 3)) % 4)],
    ['zeros and ones, mostly zeros', Array.from({ length: 4000 }, (_, i) => (i % 37 === 0 ? 1 : 0))],
    ['zero as every second id but once', Array.from({ length: 400 }, (_, i) => (i % 2 && i !== 301 ? 0 : 300 + i))],
    [
      'zero as every second id but once, late',
      Array.from({ length: 90_000 }, (_, i) => (i % 2 && i !== 80_001 ? 0 : 300 + (i % 50))),
    ],
    ['bytes of a binary file', [...readFileSync(process.execPath).subarray(0, 20_000)]],
    ['the magic of a gzip file', [0x8b1f, 0x0008, 5, 700]],
    ['the magic of a zip file', [0x4b50, 0x0403, ...IDS]],
    ['the magic of llm.c and no header', [0xd888, 0x0134, 1, 0, ...IDS, ...IDS, ...IDS]],
    ['a text of three ids', [0x6161, 0x6262, 0x6363]],
  ])('a .bin of uint16 ids that hold %s is never taken for another', async (_, ids) => {
    expect(await layoutOf(uint16(ids))).toEqual(plain(ids.length));
  });

  test('a .bin of uint16 ids is never taken for another, whatever the ids', async () => {
    const id = fc.oneof(fc.nat(255), fc.nat(50_256), fc.constantFrom(0, 0, 1, 10, 50_256));
    await fc.assert(
      fc.asyncProperty(fc.array(id, { minLength: 1, maxLength: 300 }), async (ids) => {
        const evens = ids.filter((value, i) => i % 2 === 0 && value !== 0).length;
        const odds = ids.filter((value, i) => i % 2 === 1 && value !== 0).length;
        fc.pre(ids.length < 16 || (evens > 0 && odds > 0));
        expect(await layoutOf(uint16(ids))).toEqual(plain(ids.length));
      }),
      { numRuns: 300 },
    );
  });

  test('a .bin that is another kind of file is refused by the name of that kind', async () => {
    const refused = (content: Uint8Array, ...parts: string[]) =>
      expectFailure(() => open(fileOf(content)), 'LT_DATA_CORRUPT', 'x.bin', ...parts, 'token ids');
    await refused(gzipSync(uint16(IDS)), 'gzip-compressed');
    await refused(
      Buffer.from('Call me Ishmael. Some years ago - never mind how long - précisely. '.repeat(3)),
      'is text',
      '.txt',
    );
    const zip = Buffer.alloc(200);
    zip.write('PK\x03\x04', 'latin1');
    zip.writeUInt16LE(16, 26);
    zip.write('archive/data.pkl', 30);
    await refused(zip, 'zip archive', 'PyTorch');
    await refused(
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'),
      'Git LFS',
      'git lfs pull',
    );
    const safetensors = Buffer.concat([Buffer.from([2, 1, 0, 0, 0, 0, 0, 0]), Buffer.from('{"a":1}'.padEnd(300))]);
    await refused(safetensors, 'safetensors', '--init');
  });
});

test('the hash of raw uint16 ids stays that of the bytes of the file', async () => {
  const source = fileOf(uint16(IDS));
  expect((await open(source)).hash).toBe(createHash('sha256').update(uint16(IDS)).digest('hex'));
  writeFileSync(source, uint16([...IDS].reverse()));
  expect((await open(source)).hash).toBe(
    createHash('sha256')
      .update(uint16([...IDS].reverse()))
      .digest('hex'),
  );
});
