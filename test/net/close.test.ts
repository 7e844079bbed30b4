import { expect, test } from 'vitest';
import { LantrainError } from '../../src/errors.js';
import { closingOf, errorOf } from '../../src/net/close.js';

test('an error of ours arrives at the other side with its code and its words', () => {
  const error = errorOf(closingOf(new LantrainError('LT_CLUSTER_TOKEN', 'wrong token')));
  expect({ code: error.code, message: error.message }).toEqual({ code: 'LT_CLUSTER_TOKEN', message: 'wrong token' });
});

test('a goodbye closes without an error code, and is a goodbye at the other side', () => {
  const closing = closingOf(new LantrainError('LT_CLUSTER_CLOSED', 'the run is done'));
  expect(closing).toEqual({ code: 1000, reason: 'the run is done' });
  expect(errorOf(closing).code).toBe('LT_CLUSTER_CLOSED');
});

test('a reason is cut between characters to the bytes that a close frame carries', () => {
  const { reason } = closingOf(new LantrainError('LT_CLUSTER_LIMIT', 'ä'.repeat(100)));
  expect(new TextEncoder().encode(reason).length).toBeLessThanOrEqual(123);
  expect(reason).toMatch(/^LT_CLUSTER_LIMIT: ä+$/);
});

test('a code that is none of ours, or one beside another close code, is an ordinary end', () => {
  for (const closing of [
    { code: 4000, reason: 'LT_NO_SUCH: words' },
    { code: 1000, reason: 'LT_CLUSTER_TOKEN: words' },
    { code: 1006, reason: '' },
  ])
    expect(errorOf(closing).code, closing.reason).toBe('LT_CLUSTER_CLOSED');
});
