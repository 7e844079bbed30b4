import { defineConfig } from 'vitest/config';
import { swiftShaderEnvironment, swiftShaderIcd } from './test/swiftshader.js';

/** Kernels on a second driver: a few with every `npm test`, all with LANTRAIN_ALL_DRIVERS=1, which CI sets. */
const KERNELS = process.env.LANTRAIN_ALL_DRIVERS
  ? ['test/shaders/**/*.test.ts', 'test/gpu/**/*.test.ts', 'test/model/**/*.test.ts']
  : ['attention', 'cross-entropy', 'grid', 'layernorm'].map((name) => `test/shaders/${name}.test.ts`);
const ON_SWIFTSHADER = 'test/swiftshader.test.ts';

/**
 * These compile hundreds of kernels for a few values each. Without LLVM's optimization lavapipe does that in two thirds of
 * the time, with the same bits; everything else, and CI, which sets LANTRAIN_ALL_DRIVERS=1, runs what users run.
 */
const COMPILES_MUCH = ['shaders', 'model', 'train'].map((folder) => `test/${folder}/**/*.test.ts`);
const QUICK_COMPILER = process.env.LANTRAIN_ALL_DRIVERS ? {} : { GALLIVM_PERF: 'nopt' };

// One process a file: a process holds at most one GPU device, and a lost device must not reach the next file.
export default defineConfig({
  test: {
    pool: 'forks',
    isolate: true,
    // Timing kernels takes seconds, and what is in the user's cache must not matter.
    env: { LANTRAIN_TUNE: 'off' },
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    projects: [
      {
        extends: true,
        test: { name: 'own', include: ['test/**/*.test.ts'], exclude: [ON_SWIFTSHADER, ...COMPILES_MUCH] },
      },
      { extends: true, test: { name: 'kernels', include: COMPILES_MUCH, env: QUICK_COMPILER } },
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
