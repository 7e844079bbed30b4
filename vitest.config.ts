import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { swiftShaderEnvironment, swiftShaderIcd } from './test/swiftshader.js';

/** Kernels on a second driver: a few with every `npm test`, all with LANTRAIN_ALL_DRIVERS=1, which CI sets. */
const KERNELS = process.env.LANTRAIN_ALL_DRIVERS
  ? ['test/shaders/**/*.test.ts', 'test/gpu/**/*.test.ts', 'test/model/**/*.test.ts']
  : ['attention', 'cross-entropy', 'grid', 'layernorm'].map((name) => `test/shaders/${name}.test.ts`);
const ON_SWIFTSHADER = 'test/swiftshader.test.ts';

/**
 * Tests compile hundreds of kernels for a few values each. Without LLVM's optimization lavapipe does that in half the time,
 * with the same bits; CI, which sets LANTRAIN_ALL_DRIVERS=1, runs what users run.
 */
const QUICK_COMPILER = process.env.LANTRAIN_ALL_DRIVERS ? {} : { GALLIVM_PERF: 'nopt' };

/** SwiftShader's attention takes longest of all: first, so that nothing waits for it alone at the end. */
class SecondDriverFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isFirst = (file: TestSpecification) => file.project.name === 'swiftshader';
    return [...sorted.filter(isFirst), ...sorted.filter((file) => !isFirst(file))];
  }
}

// One process a file: a process holds at most one GPU device, and a lost device must not reach the next file.
export default defineConfig({
  test: {
    pool: 'forks',
    isolate: true,
    // Timing kernels takes seconds, and what is in the user's cache must not matter. Nor is his state touched.
    env: { LANTRAIN_TUNE: 'off', LANTRAIN_STATE: resolve('node_modules/.lantrain-test-state'), ...QUICK_COMPILER },
    maxWorkers: 2,
    sequence: { sequencer: SecondDriverFirst },
    testTimeout: 300_000,
    hookTimeout: 300_000,
    projects: [
      { extends: true, test: { name: 'own', include: ['test/**/*.test.ts'], exclude: [ON_SWIFTSHADER] } },
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
