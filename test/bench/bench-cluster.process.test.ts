import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { benchShape } from '../../src/bench/shape.js';
import { parameterCount } from '../../src/model/parameters.js';
import { lantrain } from '../cli/run.js';
import { slowTest } from '../slow.js';

const SMALL = { layers: 1, heads: 2, width: 32, context: 16, batch: 4, microBatch: 2 };
const SMALL_ARGS = Object.entries(SMALL).flatMap(([name, value]) => [
  name === 'microBatch' ? '--micro-batch' : `--${name}`,
  String(value),
]);

const benches = () => readdirSync(tmpdir()).filter((name) => name.startsWith('lantrain-bench-'));

describe('bench cluster', () => {
  slowTest(
    'bench cluster times one process, each worker alone, and workers together, whose figures agree with one another',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lantrain-'));
      const svg = join(folder, 'bench.svg');
      const before = benches();
      try {
        const more = ['--workers', '1,2', '--steps', '3', '--skip', '2', '--no-intake', '--json', '--svg', svg];
        const { code, stderr, stdout, events } = await lantrain(['bench', 'cluster', ...SMALL_ARGS, ...more]);
        expect(code, stderr).toBe(0);
        expect(stdout.trim().split('\n')).toHaveLength(events.length);
        expect(events.map((e) => `${e.event} ${e.scaling} ${e.batch} ${(e.workers as string[]).length}`)).toEqual([
          'bench-cluster train 4 0',
          'bench-cluster alone 4 1',
          'bench-cluster alone 4 1',
          'bench-cluster strong 4 2',
          'bench-cluster weak 8 2',
        ]);
        const parameters = parameterCount(benchShape('tiny', SMALL).model);
        const alone = events.filter((e) => e.scaling === 'alone');
        const sum = alone.reduce((total, e) => total + Number(e.tokensPerSecond), 0);
        for (const e of events) {
          const n = (key: string) => Number(e[key]);
          expect(n('tokensPerSecond') / ((1000 * SMALL.context * n('batch')) / n('stepMs'))).toBeCloseTo(1, 2);
          // A worker's parts add up to the step, in printed hundredths of a millisecond.
          const parts = ['computeMs', 'uploadMs', 'waitMs', 'downloadMs'].reduce((sum, key) => sum + n(key), 0);
          expect(parts).toBeCloseTo(n('stepMs'), 6);
          if (e.scaling === 'train') continue;
          for (const key of ['computeMs', 'uploadMs', 'downloadMs', 'sumMs', 'updateMs'])
            expect(n(key)).toBeGreaterThan(0);
          expect(n('waitMs')).toBeGreaterThanOrEqual(0);
          // At least one bucket with its header, at most 8 bytes a parameter and the control messages.
          for (const key of ['bytesUp', 'bytesDown']) {
            expect(n(key)).toBeGreaterThan(168);
            expect(n(key)).toBeLessThan(8 * parameters + 20_000);
            expect(n(`${key}PerParameter`)).toBeCloseTo(n(key) / parameters, 2);
          }
          if (e.scaling === 'alone') expect(e.efficiency).toBeNull();
          else expect(n('efficiency')).toBeCloseTo(n('tokensPerSecond') / sum, 3);
        }
        const drawn = readFileSync(svg, 'utf8');
        expect(drawn).toMatch(/^<svg/);
        for (const label of ['worker-1 alone', '2 workers, same batch']) expect(drawn).toContain(label);
        expect(benches()).toEqual(before);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );

  test('bench cluster refuses numbers of workers that are none, and addresses that are none', async () => {
    for (const [args, message] of [
      [['--workers', '0'], /at least 1/],
      [['--workers', 'two'], /at least 1/],
      [['--listen', 'here'], /not HOST:PORT/],
      [['--batch', '3', '--micro-batch', '2'], /not divisible/],
    ] as const) {
      const { code, stderr, stdout } = await lantrain(['bench', 'cluster', ...args]);
      expect(code).toBe(2);
      expect(stderr).toMatch(message);
      expect(stdout).toBe('');
    }
  });
});
