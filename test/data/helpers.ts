import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished } from 'vitest';
import { LantrainError } from '../../src/errors.js';

/** A new folder with `files` (by relative path), removed after the test. */
export function folderWith(files: Record<string, string | Uint8Array> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'lantrain-data-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

/** Expects `action` to fail with `code` and a message of one line that contains all of `parts`. Returns the error. */
export async function expectFailure(
  action: () => unknown | Promise<unknown>,
  code: string,
  ...parts: (string | number)[]
): Promise<LantrainError> {
  let error: unknown;
  try {
    await action();
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(LantrainError);
  const failure = error as LantrainError;
  expect(failure.code).toBe(code);
  expect(failure.message).not.toContain('\n');
  for (const part of parts) expect(failure.message).toContain(String(part));
  return failure;
}

/** Text that is hard on GPT-2's splitting: runs of every class of character, contractions, specials and their halves. */
export const awkwardText = fc
  .array(
    fc.oneof(
      fc.constantFrom(' ', '  ', '\n', '\r\n', '\n\n ', '\t', '\u0085', '\u00a0', '\u3000', '\u2028', '\ufeff'),
      fc.constantFrom("'", "'s", "'ve", "'re", "'l", "''", '"', '.', '...', '—', '，', '<', '|', '<|', '|>'),
      fc.constantFrom('<|endoftext|>', '<|endof', 'text|>', 'endoftext'),
      fc.constantFrom(
        'a',
        'v',
        've',
        'Hello',
        'straße',
        '鲸鱼',
        'קול',
        'नमस्ते',
        'e\u0301',
        '7',
        '1851',
        '½',
        '٣',
        '😀',
        '👩‍👩‍👧',
      ),
      fc.string({ unit: 'grapheme', maxLength: 6 }),
      fc.string({ unit: 'binary', maxLength: 4 }),
    ),
    { maxLength: 40 },
  )
  .map((parts) => Buffer.from(parts.join(''), 'utf8').toString('utf8')); // lone surrogates become U+FFFD
