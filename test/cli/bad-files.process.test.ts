import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { runCommandLine } from '../../src/cli/command-line.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
const at = (...names: string[]) => join(folder.path, ...names);
let checkpoint = '';

beforeAll(async () => {
  const { code, stderr } = await lantrain(['train', ...SMALL, '--steps', '2', '--out', 'run'], { cwd: folder.path });
  expect(code, stderr).toBe(0);
  checkpoint = join('checkpoints', readdirSync(at('run', 'checkpoints'))[0]);
});
afterAll(() => folder.remove());

let printed = '';
beforeEach(() => {
  printed = '';
  const keep = (text: string | Uint8Array) => {
    printed += text;
    return true;
  };
  vi.spyOn(process.stderr, 'write').mockImplementation(keep);
  vi.spyOn(process.stdout, 'write').mockImplementation(keep);
  cpSync(at('run'), at('copy'), { recursive: true });
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const name of ['copy', 'out']) rmSync(at(name), { recursive: true, force: true });
});

/** Words of zod, Node, JSON.parse and Dawn, which users must not see. */
const FOREIGN =
  /unexpected error|Invalid input|Too (small|big)|expected \w+, received|Unexpected (token|end)|JSON at|ENO\w+: |EISDIR: |syscall|open '|\[object|undefined|NaN|\n\s+at /;

async function expectRefused(args: readonly string[], message: RegExp, codes = [1, 2]): Promise<void> {
  const code = await runCommandLine(args);
  // Warnings on ignored values may come before it.
  const lines = printed.trim().split('\n');
  expect(lines.at(-1), printed).toMatch(message);
  expect(lines.filter((line) => line.startsWith('error'))).toHaveLength(1);
  expect(lines.at(-1)).toMatch(/^error LT_[A-Z_]+: /);
  expect(printed).not.toMatch(FOREIGN);
  expect(codes).toContain(code);
}

const config = (change: (config: Record<string, Record<string, unknown>>) => void) => () => {
  const json = JSON.parse(readFileSync(at('copy', 'config.json'), 'utf8'));
  change(json);
  writeFileSync(at('copy', 'config.json'), JSON.stringify(json));
};
const text = (name: () => string, content: string | Buffer) => () => writeFileSync(at('copy', name()), content);
const asFolder = (name: () => string) => () => {
  rmSync(at('copy', name()), { recursive: true, force: true });
  mkdirSync(at('copy', name()));
};
const configFile = () => 'config.json';
const metricsFile = () => 'metrics.jsonl';
const state = () => join(checkpoint, 'state.json');
const model = () => join(checkpoint, 'model.safetensors');

describe('a damaged run is refused in one line that says where', () => {
  test.each<[string, () => void, RegExp]>([
    ['config.json is empty', text(configFile, ''), /config\.json is no JSON/],
    ['config.json is cut off', text(configFile, '{"version": "0'), /config\.json is no JSON/],
    ['config.json is something else', text(configFile, '[1, 2]'), /config\.json.* it must be an object/],
    ['config.json says nothing', text(configFile, '{}'), /version is missing; model is missing/],
    ['config.json is null', text(configFile, 'null'), /it must be an object/],
    ['config.json is of another encoding', text(configFile, Buffer.from('{}', 'utf16le')), /config\.json is no JSON/],
    ['config.json is a folder', asFolder(configFile), /config\.json: it is a folder where a file belongs/],
    ['a number is a text', config((c) => (c.model.layers = 'x')), /model\.layers must be a number/],
    ['a number is not whole', config((c) => (c.model.layers = 1.5)), /model\.layers must be a whole number/],
    ['a number is too small', config((c) => (c.options.lr = -1)), /options\.lr must be above 0/],
    ['a number is too large', config((c) => (c.options.dropout = 1)), /options\.dropout must be below 1/],
    ['a choice that there is not', config((c) => (c.options.schedule = 'x')), /options\.schedule must be constant or/],
    ['a field of the model too many', config((c) => (c.model.x = 1)), /model has x, which do not belong there/],
    ['the options are missing', config((c) => delete (c as object as { options?: 1 }).options), /options is missing/],
    ['the plan is of another version', config((c) => (c.plan.version = 1)), /plan's version 1 is not that/],
    ['the plan is empty', config((c) => (c.plan.matmul = [])), /plan\.matmul must have at least 1 entries/],
    ['the plan names no kernel', config((c) => (c.plan.matmul = [['*', 'x']])), /names a kernel that there is not: x/],
    ['no steps', config((c) => Object.assign(c, { totalSteps: 0 })), /totalSteps must be at least 1/],
    ['metrics.jsonl is no JSON', text(metricsFile, 'x\n{}\n'), /metrics\.jsonl, line 1, is not a metrics event/],
    ['an event lacks a field', text(metricsFile, '{"event":"step"}\n'), /metrics\.jsonl, line 1.*loss/],
    ['metrics.jsonl is a folder', asFolder(metricsFile), /metrics\.jsonl: it is a folder where a file belongs/],
  ])('report refuses a damaged run in one line: %s', async (_what, damage, message) => {
    damage();
    await expectRefused(['report', at('copy')], message);
  });

  test.each<[string, () => void, RegExp]>([
    ['state.json is cut off', () => text(state, '{')(), /state\.json is no JSON/],
    ['state.json says nothing', () => text(state, '{}')(), /state\.json: .* is missing/],
    ['state.json is a folder', () => asFolder(state)(), /state\.json cannot be read: .*\(EISDIR\)/],
    ['the weights are cut off', () => truncateSync(at('copy', model()), 4), /model\.safetensors is cut off/],
    ['the weights are something else', () => text(model, 'x'.repeat(99))(), /model\.safetensors is no safetensors/],
    ['the weights are gone', () => rmSync(at('copy', model())), /model\.safetensors/],
    ['the checkpoints are gone', () => rmSync(at('copy', 'checkpoints'), { recursive: true }), /no checkpoint yet/],
  ])('export refuses a damaged run in one line: %s', async (_what, damage, message) => {
    damage();
    await expectRefused(['export', '--run', at('copy'), '--out', at('out')], message);
  });
});

describe('what a command is to read or write and cannot', () => {
  test.each<[string, () => string[], RegExp]>([
    ['no run', () => ['report', at('nowhere')], /LT_RUN_MISSING: there is no run at .*nowhere/],
    ['a file for a run', () => ['report', at('text.txt')], /LT_RUN_MISSING: .*text\.txt is no run/],
    ['an empty name', () => ['export', '--run', at('run'), '--out', ''], /--out is empty/],
    ['a plan below a file', () => ['doctor', '--tune', '--plan-out', at('text.txt/p')], /LT_RUN_WRITE: .*ENOTDIR/],
    ['a file for a folder', () => ['export', '--run', at('run'), '--out', at('text.txt')], /text\.txt is a file/],
    ['a folder in a file', () => ['export', '--run', at('run'), '--out', at('text.txt/x')], /cannot write .*ENOTDIR/],
    ['a full folder', () => ['export', '--run', at('run'), '--out', at('run')], /LT_RUN_EXISTS: .*not empty/],
    ['a plan for nowhere', () => ['doctor', '--tune', '--plan-out', at('no/p')], /LT_RUN_WRITE: .*no\/p.*ENOENT/],
    ['a plan for a folder', () => ['doctor', '--tune', '--plan-out', at('run')], /LT_RUN_WRITE: .*it is a folder/],
    ['a drawing for nowhere', () => ['bench', 'cluster', '--svg', at('no/s')], /LT_RUN_WRITE: .*no\/s.*ENOENT/],
    ['weights of no folder', () => ['train', '--init', at('text.txt')], /text\.txt.config\.json cannot be read/],
    ['data that is no text', () => ['train', '--data', at('run', model())], /error LT_DATA/],
    ['data below a file', () => ['train', '--data', at('text.txt/x')], /LT_DATA_MISSING/],
    ['a join URL that is none', () => ['worker', 'hello'], /LT_CLUSTER_URL: not a join URL/],
    [
      "a preset that is not a run's",
      () => ['train', '--resume', at('copy'), '--preset', 'gpt2'],
      /--preset gpt2 is not what this run was begun with.*leave --preset out/,
    ],
    [
      'a certificate that is none',
      () => ['coordinator', '--cert', at('text.txt'), '--key', at('text.txt')],
      /LT_CLUSTER_CERTIFICATE: .*text\.txt is no certificate in PEM/,
    ],
    [
      'a certificate that is a folder',
      () => ['coordinator', '--cert', at('run'), '--key', at('run')],
      /LT_CLUSTER_ACCESS: cannot use .*run: .*\(EISDIR\)/,
    ],
  ])('a command refuses in one line what it cannot read or write: %s', async (_what, args, message) => {
    await expectRefused(args(), message);
  });
});
