import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { COORDINATOR_MESSAGES, type Message } from '../../cluster/protocol/protocol.js';
import { RunIdentity } from '../../src/checkpoint/identity.js';
import { openSafetensors } from '../../src/checkpoint/safetensors.js';
import { BOUNDS, checkModel, type ModelConfig, ModelSchema } from '../../src/model/config.js';
import { parameterCount } from '../../src/model/parameters.js';
import { defaultPlan } from '../../src/model/plan.js';
import { TrainOptionsSchema } from '../../src/train/options.js';
import { RunConfigSchema } from '../../src/train/run-config.js';
import { sampled } from '../thorough.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
const at = (...names: string[]) => join(folder.path, ...names);
afterAll(() => folder.remove());

/** A list of a thousand million layers would take gigabytes and a minute. */
const MOST_MEGABYTES = 300;
const ENDS_IN_MS = 30_000;

/** Runs in little memory. Where it needs more, Node aborts with a message on standard error. */
const command = (args: readonly string[]) =>
  lantrain(args, {
    cwd: folder.path,
    nodeArgs: [`--max-old-space-size=${MOST_MEGABYTES}`],
    mostMs: ENDS_IN_MS,
  });

const GPT3: ModelConfig = {
  vocabSize: 2 ** 18,
  context: 2048,
  width: 12_288,
  layers: 96,
  heads: 96,
  tie: false,
  qkvBias: true,
};
const SMALLEST: ModelConfig = { vocabSize: 1, context: 1, width: 1, layers: 1, heads: 1, tie: true, qkvBias: false };

/** One shape beyond each bound, and one beyond all of them together. */
const beyond: [string, ModelConfig, RegExp][] = [
  ['layers', { ...GPT3, layers: 1e9 }, /layers.* at most 1024/],
  ['layers by one', { ...SMALLEST, layers: BOUNDS.layers + 1 }, /layers.* at most 1024/],
  ['width', { ...GPT3, width: 96 * 1e9 }, /width.* at most 65536/],
  ['heads', { ...GPT3, width: 2 ** 16, heads: 2 ** 16 }, /heads.* at most 4096/],
  ['vocabulary', { ...GPT3, vocabSize: 2 ** 53 - 1 }, /vocabSize.* at most 1048576/],
  ['context', { ...GPT3, context: 2 ** 31 }, /context.* at most 131072/],
  ['no number', { ...GPT3, layers: Number.POSITIVE_INFINITY }, /layers.*must be/],
  ['parameters', { ...GPT3, layers: 1024 }, /1\.86e\+12 parameters are more than 2\^38/],
];

describe('one schema of shapes', () => {
  test('the schema of shapes lets through models larger than GPT-3, and the largest of each kind', () => {
    expect(() => checkModel(GPT3)).not.toThrow();
    expect(() => checkModel({ ...GPT3, context: 2 ** 17 })).not.toThrow();
    for (const key of ['vocabSize', 'context', 'width', 'layers'] as const)
      expect(() => checkModel({ ...SMALLEST, [key]: BOUNDS[key] })).not.toThrow();
  });

  test('the schema of shapes counts parameters as the list of them does', () => {
    const at = (model: ModelConfig) => ModelSchema.safeParse(model).error?.issues[0].message;
    for (const tie of [true, false])
      for (const qkvBias of [true, false]) {
        const model = { vocabSize: 1031, context: 517, width: 8192, layers: 400, heads: 8, tie, qkvBias };
        const count = parameterCount(model);
        expect(count).toBeGreaterThan(BOUNDS.parameters);
        expect(at(model)).toContain(`${count.toPrecision(3)} parameters`);
        // The bound counts parameters by a formula, which must agree with the list of parameters.
        const layers = [...Array(400).keys()].findLast((n) => n > 0 && at({ ...model, layers: n }) === undefined) ?? 0;
        expect(parameterCount({ ...model, layers })).toBeLessThanOrEqual(BOUNDS.parameters);
        expect(parameterCount({ ...model, layers: layers + 1 })).toBeGreaterThan(BOUNDS.parameters);
      }
  });

  test.each(beyond)(
    'a shape beyond its bound is refused in files, options and messages: %s',
    (_what, model, message) => {
      expect(() => checkModel(model)).toThrow(expect.objectContaining({ code: 'LT_USAGE_MODEL' }));
      expect(() => checkModel(model)).toThrow(message);
      expect(RunIdentity.safeParse({ version: '0', model }).success).toBe(false);
      expect(RunConfigSchema.shape.model.safeParse(model).success).toBe(false);
      expect(COORDINATOR_MESSAGES.welcome.safeParse(welcomeOf(model)).success).toBe(false);
    },
  );

  test('options and messages beyond their bounds are refused', () => {
    for (const [name, most] of Object.entries({ layers: 1024, width: 65536, heads: 4096, context: 2 ** 17 })) {
      const schema = TrainOptionsSchema.shape[name as 'layers'];
      expect(schema.safeParse(most).success).toBe(true);
      expect(schema.safeParse(most + 1).success).toBe(false);
    }
    for (const name of ['batch', 'microBatch', 'steps', 'epochs', 'stack', 'sampleTokens', 'warmup'] as const)
      expect(TrainOptionsSchema.shape[name].safeParse(2 ** 40).success, name).toBe(false);
    const small = { ...GPT3, layers: 1, width: 96 };
    expect(COORDINATOR_MESSAGES.welcome.safeParse(welcomeOf(small)).success).toBe(true);
    const others: Record<string, unknown>[] = [
      { shape: { batch: 32, context: 2048, dropout: 0 } },
      { microBatches: 1025 },
      { tokensPerStep: 2 ** 31 },
      { buckets: 2 ** 31 },
      { shaders: { x: 'x'.repeat(2 ** 20) } },
      { shaders: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`s${i}`, ''])) },
      { plan: { ...PLAN, rowLanes: 1e6 } },
      { plan: { ...PLAN, slabValues: 2 ** 40 } },
      { plan: { ...PLAN, slabValues: 64 } },
      { plan: { ...PLAN, windowValues: 1 } },
    ];
    for (const change of others)
      expect(COORDINATOR_MESSAGES.welcome.safeParse({ ...welcomeOf(small), ...change }).success).toBe(false);
  });
});

const PLAN = defaultPlan({ software: true, subgroupSize: 8 } as Parameters<typeof defaultPlan>[0]);

function welcomeOf(model: ModelConfig): Extract<Message, { type: 'welcome' }> {
  return {
    type: 'welcome',
    worker: 1,
    incarnation: 1,
    step: 1,
    model,
    plan: PLAN,
    shape: { batch: 1, context: 1024, dropout: 0 },
    seed: 1,
    microBatches: 1,
    tokensPerStep: 1024,
    buckets: 2,
  };
}

describe('a shape beyond the bounds is refused in one line, in little memory', () => {
  beforeAll(async () => {
    const { code, stderr } = await command(['train', ...SMALL, '--steps', '2', '--out', 'run']);
    expect(code, stderr).toBe(0);
    const config = (change: Record<string, unknown>, name: string) => {
      cpSync(at('run'), at(name), { recursive: true });
      const json = JSON.parse(readFileSync(at('run/config.json'), 'utf8'));
      writeFileSync(at(name, 'config.json'), JSON.stringify({ ...json, model: { ...json.model, ...change } }));
    };
    config({ layers: 1e9 }, 'deep');
    cpSync(at('run'), at('deep-checkpoint'), { recursive: true });
    const checkpoint = join('checkpoints', readdirSync(at('run/checkpoints'))[0], 'config.json');
    const inside = JSON.parse(readFileSync(at('run', checkpoint), 'utf8'));
    writeFileSync(at('deep-checkpoint', checkpoint), JSON.stringify({ ...inside, n_layer: 1e9 }));
    cpSync(resolve('test/golden/tied'), at('deep-model'), { recursive: true });
    const model = JSON.parse(readFileSync(at('deep-model/config.json'), 'utf8'));
    writeFileSync(at('deep-model/config.json'), JSON.stringify({ ...model, n_layer: 1e9 }));
  });

  const BIG = '1000000000';
  const cases: [string, string[], 1 | 2, RegExp][] = [
    ['report', ['report', 'deep'], 1, /LT_CHECKPOINT_CORRUPT: .*model\.layers must be at most 1024/],
    ['generate', ['generate', '--run', 'deep', '--prompt', 'x'], 1, /model\.layers must be at most 1024/],
    ['export', ['export', '--run', 'deep', '--out', 'out'], 1, /model\.layers must be at most 1024/],
    ['train --resume', ['train', '--resume', 'deep', '--steps', '4'], 1, /model\.layers must be at most 1024/],
    [
      'coordinator --resume',
      ['coordinator', '--resume', 'deep', '--steps', '4', '--listen', '127.0.0.1:0'],
      1,
      /model\.layers must be at most 1024/,
    ],
    [
      'a checkpoint of a run',
      ['export', '--run', 'deep-checkpoint', '--out', 'out'],
      1,
      /LT_CHECKPOINT_CORRUPT: .*n_layer must be at most 1024/,
    ],
    ['--init', ['train', '--init', 'deep-model'], 1, /LT_CHECKPOINT_CORRUPT: .*n_layer must be at most 1024/],
    ['--layers', ['train', ...SMALL, '--layers', BIG], 2, /LT_USAGE_OPTION: --layers 1000000000 must be at most 1024/],
    ['--width', ['train', ...SMALL, '--width', BIG], 2, /--width 1000000000 must be at most 65536/],
    ['--context', ['train', ...SMALL, '--context', BIG], 2, /--context 1000000000 must be at most 131072/],
    ['--batch', ['train', ...SMALL, '--batch', '9007199254740881'], 2, /--batch 9007199254740881 must be at most/],
    ['--steps', ['train', ...SMALL, '--steps', '99999999999'], 2, /--steps 99999999999 must be at most 4294967295/],
    ['--epochs', ['train', ...SMALL, '--epochs', '4294967295'], 2, /--epochs 4294967295 are \d+ steps, more than/],
    [
      'a model too large altogether',
      ['train', ...SMALL, '--layers', '1024', '--width', '65536'],
      2,
      /LT_USAGE_MODEL: 5\.28e\+13 parameters are more than 2\^38/,
    ],
  ];
  test.each(sampled(cases, 8))(
    'a shape beyond the bounds is refused in one line, in little memory: %s',
    async (_what, args, code, message) => {
      const ended = await command(args);
      const lines = ended.stderr.trim().split('\n');
      expect(lines.at(-1), ended.stderr).toMatch(message);
      expect(lines.filter((line) => /error|FATAL|memory/i.test(line))).toHaveLength(1);
      expect(ended.code).toBe(code);
      expect(existsSync(at('out'))).toBe(false);
    },
  );
});

describe('a safetensors header that lies', () => {
  /** A file with this header, which claims `bytes` bytes, and no data. */
  const forge = (header: string, bytes = header.length) => {
    const path = at('lies.safetensors');
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes));
    writeFileSync(path, Buffer.concat([length, Buffer.from(header)]));
    return path;
  };
  const refused = (path: string, message: RegExp) => {
    expect(() => openSafetensors(path)).toThrow(expect.objectContaining({ code: 'LT_CHECKPOINT_CORRUPT' }));
    expect(() => openSafetensors(path)).toThrow(message);
  };
  const tensor = (shape: readonly number[], begin = 0, end = 0) =>
    JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, end] });

  test('a safetensors header that lies about its length, its tensors or their shapes is refused', () => {
    refused(forge('{}', 2 ** 40), /is no safetensors file: it begins with a header length of 1099511627776/);
    refused(forge('{}', 2 ** 24), /is cut off: its header ends at byte 16777224/);
    const many = Array.from({ length: 2 ** 17 + 1 }, (_, i) => `"${i}":${tensor([0])}`);
    refused(forge(`{${many.join()}}`), /a header of 131073 tensors, more than 131072/);
    refused(forge(`{"a":${tensor([2 ** 52, 2 ** 52, 2 ** 52])}}`), /gives a 0 bytes/);
    refused(forge(`{"a":${tensor([1], 2 ** 52, 2 ** 52 + 4)}}`), /a gap before a/);
    refused(forge(`{"a":${tensor(Array(17).fill(0))}}`), /a damaged header entry for a/);
    refused(forge(`{"a":${tensor([0, 2 ** 53])}}`), /a damaged header entry for a/);
  });
});
