import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const MAIN = join(import.meta.dirname, '../../dist/src/cli/main.js');
const hasScript = spawnSync('script', ['--version']).status === 0;

// Dawn writes these words itself, by another way than Node's streams.
test.skipIf(!hasScript || process.platform !== 'linux')(
  'what Dawn says of limits while it looks for adapters does not reach a terminal, and errors still do',
  () => {
    const options = ['train', '--adapter', 'no such adapter'];
    const command = [process.execPath, MAIN, ...options].map((word) => `'${word}'`).join(' ');
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8' });
    expect(stdout).toMatch(/^error LT_GPU_NONE: no GPU adapter's name contains "no such adapter"; there are: /m);
    expect(stdout).not.toContain('artificially reduced');
    const piped = spawnSync(process.execPath, [MAIN, ...options], { encoding: 'utf8' });
    expect(piped.stderr).toMatch(/^error LT_GPU_NONE/m);
  },
);
