import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import type { StatePart } from '../../src/checkpoint/digest.js';
import { type ErrorCode, LantrainError } from '../../src/errors.js';
import type { ModelConfig } from '../../src/model/config.js';
import { parameters } from '../../src/model/parameters.js';

export const GOLDEN = new URL('../golden/', import.meta.url).pathname;

export const TINY: ModelConfig = {
  vocabSize: 11,
  context: 5,
  width: 6,
  layers: 2,
  heads: 3,
  tie: false,
  qkvBias: false,
};

/** A new folder, removed after the test. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'lantrain-checkpoint-'));
  made.push(dir);
  return dir;
}
const made: string[] = [];
afterEach(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true });
});

/** Values of a made-up state, different for each part, tensor, index and `salt`. */
export function state(config: ModelConfig, salt = 0) {
  const list = parameters(config);
  return (part: StatePart, name: string): Float32Array => {
    const index = list.findIndex((parameter) => parameter.name === name);
    const first = 1000 * index + { weights: 0, master: 0.75, m: 0.25, v: 0.5 }[part] + salt;
    return Float32Array.from({ length: list[index].size }, (_, i) => (i % 2 ? -1 : 1) * (first + i) * 1e-3);
  };
}

/** Expects `act` to fail with this code and a message of one line. Resolves with the message. */
export async function failure(code: ErrorCode, act: () => unknown): Promise<string> {
  try {
    await act();
  } catch (error) {
    expect(error).toBeInstanceOf(LantrainError);
    const { code: got, message } = error as LantrainError;
    expect(got, message).toBe(code);
    expect(message).not.toContain('\n');
    return message;
  }
  throw new Error(`nothing was thrown where ${code} was expected`);
}
