/**
 * Set-up of the project `unit`. Its tests may not start processes or threads or open an adapter. A test that does fails
 * with the file name that it needs.
 */
import childProcess from 'node:child_process';
import { syncBuiltinESMExports } from 'node:module';
import workerThreads from 'node:worker_threads';
import { vi } from 'vitest';

function refuse(what: string, suffix: string) {
  return (): never => {
    throw new Error(`a unit test ${what}: name its file x.${suffix}.test.ts`);
  };
}

for (const name of ['spawn', 'spawnSync', 'exec', 'execSync', 'execFile', 'execFileSync', 'fork'] as const)
  Object.assign(childProcess, { [name]: refuse('starts a process', 'process') });
// A thread's program is a file in dist/, which unit tests must not need.
Object.assign(workerThreads, { Worker: refuse('starts a thread', 'process') });
syncBuiltinESMExports();

vi.mock('webgpu', () => ({ create: refuse('asks for an adapter', 'gpu'), globals: {} }));
vi.mock('playwright-core', () => ({ chromium: { launch: refuse('opens a browser', 'browser') } }));
