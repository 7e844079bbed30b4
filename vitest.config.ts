import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { swiftShaderEnvironment, swiftShaderIcd } from './test/swiftshader.js';
import { IS_THOROUGH } from './test/thorough.js';

/** Kernels on a second driver: a few with every `npm test`, all with LANTRAIN_ALL_DRIVERS=1, which CI sets. */
const KERNELS = IS_THOROUGH
  ? ['shaders/**/*', 'gpu/**/*', 'model/**/*', 'run/matmul-contest'].map((path) => `test/${path}.gpu.test.ts`)
  : ['cross-entropy', 'fixed-point', 'layernorm'].map((name) => `test/shaders/${name}.gpu.test.ts`);
const ON_SWIFTSHADER = 'test/swiftshader.test.ts';

/**
 * Tests compile hundreds of kernels for a few values each. Without LLVM's optimization lavapipe does that in half the time,
 * with the same bits; CI, which sets LANTRAIN_ALL_DRIVERS=1, runs what users run.
 */
const QUICK_COMPILER = IS_THOROUGH ? {} : { GALLIVM_PERF: 'nopt' };

/** SwiftShader's attention takes longest of all: first, so that nothing waits for it alone at the end. */
class SecondDriverFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isFirst = (file: TestSpecification) => file.project.name === 'swiftshader';
    return [...sorted.filter(isFirst), ...sorted.filter((file) => !isFirst(file))];
  }
}

/**
 * What a file needs is in its name: `x.gpu.test.ts` an adapter, `x.process.test.ts` other processes, another user or what is built,
 * `x.browser.test.ts` Chromium, `x.package.test.ts` npm and its registry. All others are unit tests, which test/unit-guard.ts keeps from any of these.
 */
const byName = (name: string) => ({ name, include: [`test/**/*.${name}.test.ts`] });

// Files of a project share their processes: what they import is loaded once. Each opens its own GPU device, so that a lost one does
// not reach the next file.
export default defineConfig({
  test: {
    pool: 'forks',
    // Timing kernels takes seconds, and what is in the user's cache must not matter. Nor is his state touched.
    env: { LANTRAIN_TUNE: 'off', LANTRAIN_STATE: resolve('node_modules/.lantrain-test-state'), ...QUICK_COMPILER },
    maxWorkers: 2,
    sequence: { sequencer: SecondDriverFirst, groupOrder: 1 },
    testTimeout: 300_000,
    hookTimeout: 300_000,
    reporters: ['default', './test/summary.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.{gpu,process,browser,package}.test.ts', ON_SWIFTSHADER],
          setupFiles: ['test/unit-guard.ts'],
          // One thread for many files: they import the same modules, and nothing of them outlives a file.
          pool: 'threads',
          isolate: false,
          // Some of them wait for a clock or a socket.
          maxWorkers: availableParallelism() + 1,
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { ...byName('gpu'), isolate: false } },
      { extends: true, test: { ...byName('process'), isolate: false } },
      { extends: true, test: { ...byName('browser'), isolate: false } },
      // An installation and five runs: minutes on a busy machine.
      { extends: true, test: { ...byName('package'), testTimeout: 900_000, hookTimeout: 900_000 } },
      {
        extends: true,
        test: {
          name: 'swiftshader',
          include: [ON_SWIFTSHADER, ...(swiftShaderIcd() ? KERNELS : [])],
          env: swiftShaderEnvironment(),
        },
      },
    ],
  },
});
