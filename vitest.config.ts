import { defineConfig } from 'vitest/config';

// One process a file: a process holds at most one GPU device, and a lost device must not reach the next file.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    isolate: true,
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
