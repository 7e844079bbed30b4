import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openDataset } from '../../src/data/dataset.js';
import { loadTokenizer } from '../../src/data/tokenizer.js';
import { expectFailure, folderWith } from './helpers.js';

const bytes = await loadTokenizer('bytes');

async function open(source: string) {
  const dataset = await openDataset({ source, tokenizer: bytes, valRatio: 0 });
  onTestFinished(() => dataset.close());
  return dataset;
}

const ENGLISH = 'Call me Ishmael. Some years ago - never mind how long precisely.\r\n'.repeat(20);
const RUSSIAN = 'Зовите меня Измаил. Несколько лет тому назад.\n'.repeat(20);
const CHINESE = '叫我以实玛利吧。几年前，别管到底是几年前。\n'.repeat(20);
const utf16 = (text: string, order: 'LE' | 'BE') => {
  const units = Buffer.from(text, 'utf16le');
  return order === 'LE' ? units : units.swap16();
};
const utf32 = (text: string) => Buffer.from(Uint32Array.from([...text], (c) => c.codePointAt(0) as number).buffer);

describe('a document that is no plain text is named for what it is, alone and in a folder', () => {
  const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk', 'base64');
  const safetensors = Buffer.concat([Buffer.from([2, 1, 0, 0, 0, 0, 0, 0]), Buffer.from('{"a":1}'.padEnd(300))]);
  const pdf = '%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n';
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 123456\n`;
  test.each<[string, Uint8Array | string, ...string[]]>([
    ['English in UTF-16LE', utf16(ENGLISH, 'LE'), 'not UTF-8', 'UTF-16LE', 'iconv -f UTF-16LE -t UTF-8', '.bin'],
    ['English in UTF-16BE', utf16(ENGLISH, 'BE'), 'not UTF-8', 'UTF-16BE', 'iconv -f UTF-16BE'],
    ['a few words in UTF-16LE', utf16('Ahoy!', 'LE'), 'UTF-16LE'],
    ['Russian in UTF-16LE, which is valid UTF-8', utf16(RUSSIAN, 'LE'), 'UTF-16LE'],
    ['Russian in UTF-16BE', utf16(RUSSIAN, 'BE'), 'UTF-16BE'],
    ['Chinese in UTF-16LE', utf16(CHINESE, 'LE'), 'no valid character', 'UTF-16LE'],
    ['Chinese in UTF-16BE', utf16(CHINESE, 'BE'), 'UTF-16BE'],
    [
      'French in UTF-16LE, cut in a character',
      utf16('Où est la baleine? Là-bas, près du récif.\n', 'LE').subarray(0, -1),
      'UTF-16LE',
    ],
    ['UTF-16LE with a mark', utf16(`\ufeff${CHINESE}`, 'LE'), 'byte 0 ', 'UTF-16LE'],
    ['UTF-16BE with a mark', utf16(`\ufeff${CHINESE}`, 'BE'), 'byte 0 ', 'UTF-16BE'],
    ['UTF-32LE', utf32(ENGLISH), 'UTF-32LE'],
    ['UTF-32BE', utf32(ENGLISH).swap32(), 'UTF-32BE'],
    ['NUL bytes', Buffer.concat([Buffer.from(ENGLISH), Buffer.alloc(100)]), 'not text', '100 are NUL'],
    ['gzip', gzipSync(ENGLISH), 'gzip-compressed', 'unpack'],
    ['zip', Buffer.concat([Buffer.from('PK\x03\x04\x14\0\0\0\x08\0'), png]), 'zip archive', '.docx'],
    ['zstd', Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), png]), 'zstd-compressed'],
    ['PDF of ASCII only', pdf, 'a PDF', 'convert'],
    ['PNG', png, 'a PNG image'],
    ['JPEG', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16, 0x4a, 0x46]), 'a JPEG image'],
    ['safetensors', safetensors, 'safetensors', '--init'],
    ['a Parquet table', Buffer.concat([Buffer.from('PAR1'), png]), 'Parquet'],
    ['a Git LFS pointer', pointer, 'Git LFS pointer', 'git lfs pull'],
    ['uint16 ids of bytes', Buffer.from(Uint16Array.from(Buffer.from(ENGLISH)).buffer), 'call it .bin'],
  ])('a document of %s is named for what it is, alone and in a folder', async (_, content, ...parts) => {
    const folder = folderWith({ 'a.txt': 'Text first.', 'b/x.txt': content });
    const path = join(folder, 'b/x.txt');
    await expectFailure(() => open(path), 'LT_DATA_CORRUPT', path, ...parts);
    await expectFailure(() => open(folder), 'LT_DATA_CORRUPT', path, ...parts);
  });
});

test.each<[string, Uint8Array]>([
  ['Latin-1', Buffer.from('Où est la baleine? Là-bas, près du récif.\n'.repeat(20), 'latin1')],
  ['Shift-JIS', Buffer.from('82b182ea82cd8c7e82c582b781420a'.repeat(20), 'hex')],
  ['GBK', Buffer.from('bdd0ced2d2d4caaaa1a30a'.repeat(20), 'hex')],
  ['noise', Buffer.from(Uint8Array.from({ length: 4000 }, (_, i) => (i * i * 31 + (i >> 3) * 17) & 0xff))],
])('a file that is neither UTF-8 nor UTF-16 is not called UTF-16: %s', async (_, content) => {
  const path = join(folderWith({ 'x.txt': content }), 'x.txt');
  const { message } = await expectFailure(
    () => open(path),
    'LT_DATA_CORRUPT',
    path,
    'not UTF-8',
    'convert it to UTF-8',
  );
  expect(message).not.toContain('UTF-16');
});

describe('text stays text', () => {
  test.each<[string, string]>([
    ['with a NUL here and there', `${ENGLISH}\0${ENGLISH}\0`],
    ['of records that NUL bytes end', 'runs/tiny-1/checkpoints/000500/state.json\0'.repeat(200)],
    ['with control characters between fields', 'Ishmael\x01Ahab\x01Queequeg\x02'.repeat(100)],
    ['that begins with the mark of a binary file', 'GGUF is a format. PAR1 is another, GIF8 a third.'],
    ['about zip files', 'PK\x03\x04 begins a zip file.'],
    ['of a terminal', '\x1b[1mCall me Ishmael.\x1b[0m\r\n'.repeat(50)],
    ['in Chinese', CHINESE],
    ['of three bytes', 'a\0b'],
  ])('text %s stays text', async (_, text) => {
    const dataset = await open(join(folderWith({ 'x.txt': text }), 'x.txt'));
    expect(Buffer.from(dataset.train.read(0, dataset.train.length))).toEqual(Buffer.from(text));
  });
});
