import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { openSafetensors, writeSafetensors } from '../../src/checkpoint/safetensors.js';
import { LantrainError } from '../../src/errors.js';
import { readTensors } from '../reference/safetensors.js';
import { failure, GOLDEN, scratch } from './helpers.js';

/** A file with this header (text or JSON) and this many bytes of data. */
function forge(header: unknown, dataBytes: number, headerBytes?: number): string {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes ?? text.length));
  const path = join(scratch(), 'forged.safetensors');
  writeFileSync(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}
const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('reading safetensors', () => {
  test("PyTorch's safetensors file is read bit for bit, wholly and in parts", () => {
    const path = join(GOLDEN, 'tied/final.safetensors');
    const expected = readTensors(path);
    const file = openSafetensors(path);
    expect([...file.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, values] of expected) expect(file.read(name)).toEqual(values);
    const name = [...expected.keys()][0];
    expect(file.read(name, 3, 5)).toEqual(expected.get(name)?.slice(3, 8));
    expect(() => file.read(name, 0, 1e9)).toThrow(RangeError);
    file.close();
  });

  test.each<[string, () => string, RegExp]>([
    ['a header of no length', () => forge('', 0), /header length of 0/],
    [
      'a header length beyond the file',
      () => forge('{}', 0, 5000),
      /cut off: its header ends at byte 5008, the file at 10/,
    ],
    ['a file that is something else', () => forge('{}', 0, 2 ** 50), /no safetensors file/],
    ['a header that is no JSON', () => forge('{"a":', 8), /no JSON object/],
    ['a header that is a list', () => forge('[]', 0), /no JSON object/],
    ['an entry without offsets', () => forge({ a: { dtype: 'F32', shape: [1] } }, 4), /damaged header entry for a/],
    ['a negative offset', () => forge({ a: f32(-4, 0) }, 0), /damaged header entry for a/],
    ['a fractional shape', () => forge({ a: f32(0, 4, [0.5]) }, 4), /damaged header entry for a/],
    ['an unknown type', () => forge({ a: { ...f32(0, 4), dtype: 'toString' } }, 4), /unknown type toString/],
    ['a size that is not the shape', () => forge({ a: f32(0, 8, [3]) }, 8), /gives a 8 bytes; \[3\] of F32 takes 12/],
    ['data past the end', () => forge({ a: f32(0, 16) }, 15), /cut off: its data ends at byte \d+, the file at \d+/],
    ['bytes after the data', () => forge({ a: f32(0, 16) }, 17), /1 bytes too many/],
    ['overlapping tensors', () => forge({ a: f32(0, 8), b: f32(4, 12) }, 12), /overlapping data before b/],
    ['a gap between tensors', () => forge({ a: f32(0, 8), b: f32(12, 16) }, 16), /a gap before b/],
    ['metadata that is no map of strings', () => forge({ __metadata__: { a: 1 } }, 0), /__metadata__/],
  ])('%s is refused with the path and the reason', async (_, make, reason) => {
    const path = make();
    const message = await failure('LT_CHECKPOINT_CORRUPT', () => openSafetensors(path));
    expect(message).toContain(path);
    expect(message).toMatch(reason);
  });

  test('a missing file is refused with the system reason', async () => {
    const path = join(scratch(), 'none.safetensors');
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => openSafetensors(path))).toBe(
      `${path} cannot be read: no such file or directory (ENOENT)`,
    );
  });

  test('a file cut off anywhere is refused, never read wrong', () => {
    const whole = readFileSync(join(GOLDEN, 'untied/model.safetensors'));
    const path = join(scratch(), 'cut.safetensors');
    fc.assert(
      fc.property(fc.nat(whole.length - 1), (length) => {
        writeFileSync(path, whole.subarray(0, length));
        expect(() => openSafetensors(path)).toThrow(expect.objectContaining({ code: 'LT_CHECKPOINT_CORRUPT' }));
      }),
      { numRuns: 60 },
    );
  });

  test('a header with any byte changed is refused or leaves every tensor inside the file', () => {
    const whole = readFileSync(join(GOLDEN, 'untied/model.safetensors'));
    const path = join(scratch(), 'changed.safetensors');
    fc.assert(
      fc.property(fc.nat(2600), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const changed = Buffer.from(whole);
        changed[at] = byte;
        writeFileSync(path, changed);
        try {
          const file = openSafetensors(path);
          for (const { name, dtype } of file.tensors.values()) if (dtype === 'F32') file.read(name);
          file.close();
        } catch (error) {
          expect((error as LantrainError).code).toBe('LT_CHECKPOINT_CORRUPT');
        }
      }),
      { numRuns: 60 },
    );
  });

  test('float16 and bfloat16 are widened exactly; other types and unknown names are refused', async () => {
    const header = {
      h: { dtype: 'F16', shape: [8], data_offsets: [0, 16] },
      b: { dtype: 'BF16', shape: [2], data_offsets: [16, 20] },
      i: { dtype: 'I32', shape: [1], data_offsets: [20, 24] },
    };
    const path = forge(header, 24);
    const bytes = readFileSync(path);
    const words = [0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c01, 0xfbff, 0x7c00, 0x3fc0, 0xc2f7];
    for (const [i, word] of words.entries()) bytes.writeUInt16LE(word, bytes.length - 24 + 2 * i);
    writeFileSync(path, bytes);
    const file = openSafetensors(path);
    const expected = [0, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 1 + 2 ** -10, -65504, Number.POSITIVE_INFINITY];
    expect([...file.read('h')]).toEqual(expected);
    expect([...file.read('b')]).toEqual([1.5, -123.5]);
    expect(await failure('LT_CHECKPOINT_TENSOR', () => file.read('i'))).toContain('i is I32');
    expect(await failure('LT_CHECKPOINT_TENSOR', () => file.read('x'))).toContain('no tensor x');
    file.close();
  });
});

describe('writing safetensors', () => {
  test('any tensors come back bit for bit, read in order, once', async () => {
    const dir = scratch();
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__' && name !== '__proto__')),
        fc.array(fc.float({ noNaN: false }), { minLength: 6, maxLength: 6 }),
        async (names, values) => {
          const path = join(dir, 'any.safetensors');
          const order: string[] = [];
          const entries = names.map((name, i) => ({ name, shape: [[6], [2, 3], [0], []][i % 4] }));
          await writeSafetensors(
            path,
            entries,
            (name) => {
              order.push(name);
              const size = entries[names.indexOf(name)].shape.reduce((a, b) => a * b, 1);
              return Float32Array.from(values.slice(0, size));
            },
            { made: 'here' },
          );
          expect(order).toEqual(names);
          const file = openSafetensors(path);
          expect(file.metadata).toEqual({ made: 'here' });
          for (const { name, shape } of entries) {
            expect(file.tensors.get(name)?.shape).toEqual(shape);
            const size = shape.reduce((a, b) => a * b, 1);
            expect(file.read(name)).toEqual(Float32Array.from(values.slice(0, size)));
          }
          file.close();
        },
      ),
      { numRuns: 30 },
    );
  });

  test('a reader that fails leaves the old file and nothing half-written', async () => {
    const dir = scratch();
    const path = join(dir, 'a.safetensors');
    await writeSafetensors(path, [{ name: 'a', shape: [1] }], () => Float32Array.of(7));
    const before = readFileSync(path);
    const entries = ['a', 'b'].map((name) => ({ name, shape: [2] }));
    const lost = new LantrainError('LT_GPU_LOST', 'the device is lost');
    await expect(
      writeSafetensors(path, entries, (name) => {
        if (name === 'b') throw lost;
        return Float32Array.of(1, 2);
      }),
    ).rejects.toBe(lost);
    await expect(writeSafetensors(path, entries, () => Float32Array.of(1))).rejects.toThrow(RangeError);
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(dir)).toEqual(['a.safetensors']);
  });
});
