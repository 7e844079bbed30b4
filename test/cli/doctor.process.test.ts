import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { DoctorReport } from '../../src/cli/doctor-report.js';
import { PRESETS } from '../../src/train/presets.js';
import { slowTest } from '../slow.js';
import { lantrain, SMALL, workFolder } from './run.js';

const work = workFolder();
afterAll(() => work.remove());

async function doctorJson(args: string[] = [], env: Record<string, string> = {}) {
  const { code, stdout } = await lantrain(['doctor', '--json', ...args], { env });
  expect(stdout.trim().split('\n')).toHaveLength(1);
  return { code, report: JSON.parse(stdout) as DoctorReport };
}

describe('doctor', () => {
  test('doctor describes the adapter at hand, measures its ceilings and finds nothing wrong', async () => {
    const { code, report } = await doctorJson([], { LANTRAIN_CACHE: join(work.path, 'not', 'there', 'yet') });
    expect(code).toBe(0);
    expect(report).toMatchObject({
      event: 'doctor',
      usable: true,
      selfTest: 'passed',
      portable: { portable: true },
      problems: [],
    });
    expect(report.node).toBe(process.versions.node);
    expect(report.adapter?.name).not.toBe('');
    expect(report.processor).not.toBe('');
    if (process.platform === 'linux' && process.arch === 'x64') expect(report.processor).toMatch(/ with AVX(2|-512)$/);
    expect(report.plan?.version).toBe(2);
    expect(report.planHash).toMatch(/^[0-9a-f]{64}$/);
    expect(report.limits.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(2 ** 27);
    expect(report.ceilings?.gflops).toBeGreaterThan(0.5);
    expect(report.ceilings?.gigabytesPerSecond).toBeGreaterThan(0.2);
    expect(report.presets.map((p) => p.name)).toEqual(Object.keys(PRESETS));
    for (const p of report.presets)
      expect(p.fits).toBe(report.availableBytes === null ? null : p.needsBytes <= report.availableBytes);
    expect(report.presets.find((p) => p.name === 'verdict')?.parameters).toBe(162_419_712);
    expect(report.notes.join()).not.toContain('cache folder');
  });

  test.runIf(process.platform === 'linux')(
    'doctor tells all the rest without an adapter, and one line of what is wrong',
    async () => {
      const hidden = await lantrain(['doctor'], { env: { VK_DRIVER_FILES: '/nonexistent' } });
      expect(hidden.code).toBe(1);
      const wrong = hidden.stdout.split('\n').filter((line) => line.startsWith('wrong: '));
      expect(wrong).toHaveLength(1);
      expect(wrong[0]).toMatch(
        /^wrong: no usable GPU adapter: .*VK_DRIVER_FILES=\/nonexistent hides '.+', which works/,
      );
      expect(hidden.stdout).toMatch(/^lantrain +0\./m);
      expect(hidden.stdout).toMatch(/^processor +.+, \d+ cores$/m);
      expect(hidden.stdout).toMatch(/^gpt2 .* GB at micro-batch 1$/m);
      expect(hidden.stdout).not.toContain('can train here');
    },
  );

  slowTest('doctor says in one line that the webgpu package does not work, and so does training', async () => {
    const hooks = `export const resolve = (name, context, next) => {
      if (name === 'webgpu') throw new Error('no binary');
      return next(name, context);
    };`;
    const url = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
    const register = `import { register } from 'node:module'; register(${JSON.stringify(url(hooks))});`;
    const env = { NODE_OPTIONS: `--import ${url(register)}` };
    const { code, report } = await doctorJson([], env);
    expect(code).toBe(1);
    expect(report.problems).toEqual(['the webgpu package does not work here: no binary']);
    const trained = await lantrain(['train', ...SMALL], { cwd: work.path, env });
    expect(trained.code).toBe(1);
    expect(trained.stderr).toMatch(/^error LT_GPU_NONE: the webgpu package does not work here \(no binary\).*\n$/m);
  });

  test('doctor names the adapters there are when --adapter names none', async () => {
    const { code, report } = await doctorJson(['--adapter', 'no such adapter']);
    expect(code).toBe(1);
    expect(report.adapter).toBeNull();
    expect(report.problems).toHaveLength(1);
    expect(report.problems[0]).toMatch(/'no such adapter': Available adapters: \* backend/);
  });

  slowTest('doctor notes a cache folder that cannot be written', async () => {
    const { code, report } = await doctorJson([], { LANTRAIN_CACHE: join(work.path, 'text.txt', 'cache') });
    expect(code).toBe(0);
    expect(report.notes.filter((note) => note.includes('cache folder'))).toEqual([
      expect.stringContaining('text.txt is not a folder'),
    ]);
  });
});
