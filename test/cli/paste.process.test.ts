import { spawnSync } from 'node:child_process';
import { afterAll, expect, test } from 'vitest';
import { IS_THOROUGH } from '../thorough.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());

/** Runs a printed line in a shell, as if a user had pasted it. */
function paste(line: string) {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', line], { cwd: folder.path, encoding: 'utf8' });
  return { status, stdout, stderr };
}

function printed(text: string, before: string): string {
  const line = text.split('\n').find((line) => line.includes(before));
  if (line === undefined) throw new Error(`nothing printed has "${before}": ${text}`);
  return line.slice(line.indexOf(before) + before.length);
}

test.skipIf(process.platform === 'win32' || !IS_THOROUGH)(
  'commands that a run prints can be pasted, whatever its directory and its prompt are called',
  async () => {
    const out = `my run's "$HOME" & \`id\``;
    const prompt = `it's "$HOME"; \\ \`id\` 100% !`;
    let asked = false;
    const stopped = await lantrain(
      ['train', ...SMALL, '--eval-every', '0', '--steps', '60', '--out', out, '--prompt', prompt],
      {
        cwd: folder.path,
        onOutput: (text, signal) => {
          if (asked || !/^step +1\//m.test(text)) return;
          asked = true;
          signal('SIGINT');
        },
      },
    );
    expect(stopped.code, stopped.stderr).toBe(130);

    const done = paste(printed(stopped.stdout + stopped.stderr, 'go on with: '));
    expect(done.status, done.stderr).toBe(0);
    expect(done.stdout).toContain('done     60 steps, from step ');

    const text = paste(printed(done.stdout, 'try      '));
    expect(text.status, text.stderr).toBe(0);
    expect(text.stdout.startsWith(prompt)).toBe(true);

    const more = paste(printed(done.stdout, 'or       '));
    expect(more.status, more.stderr).toBe(0);
    expect(more.stdout).toContain('done     120 steps, from step 60 on, in ');
  },
  120_000,
);
