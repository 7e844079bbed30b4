import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { slowTest } from '../slow.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());
const options = [...SMALL, '--batch', '8', '--micro-batch', '1', '--dropout', '0.1'];

/** Process ids of the workers that `demo` has started in this test's folder. */
function workers(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        return args.includes('worker') && environment.includes(`DEMO_TEST=${folder.path}`);
      } catch {
        // It has ended.
        return false;
      }
    });
}

async function none(): Promise<number[]> {
  for (let tries = 0; tries < 50 && workers().length > 0; tries++) await new Promise((go) => setTimeout(go, 100));
  return workers();
}

function demo(args: readonly string[], onOutput?: (text: string, signal: (s: NodeJS.Signals) => void) => void) {
  const env = { DEMO_TEST: folder.path };
  return lantrain(['demo', ...args, '--json'], { cwd: folder.path, env, onOutput });
}

// It reads the list of processes in /proc, which only Linux has.
describe.skipIf(process.platform !== 'linux')('lantrain demo', () => {
  test('a demo replaces a worker that is killed, ends with the digest of train and leaves no process', async () => {
    const args = [...options, '--steps', '40'];
    let killed = 0;
    const run = await demo([...args, '--out', 'together'], (text) => {
      if (killed > 0 || !text.includes('"step":3,')) return;
      [killed] = workers();
      process.kill(killed, 'SIGKILL');
    });
    expect(run.code, run.stderr).toBe(0);
    expect(killed).toBeGreaterThan(0);
    expect(run.stderr).toMatch(/worker [ab] fell: it ended by SIGKILL; starting another/);
    expect(await none()).toEqual([]);
    const alone = await lantrain(['train', ...args, '--json', '--out', 'alone'], { cwd: folder.path });
    expect(run.events.at(-1)).toMatchObject({ event: 'done', digest: alone.events.at(-1)?.digest });
  });

  const signals = [
    ['SIGKILL', null],
    ['SIGINT', 130],
  ] as const;
  slowTest.each(signals)('a demo leaves no process after %s', async (signal, code) => {
    let sent = false;
    let running = 0;
    const run = await demo([...options, '--steps', '2000', '--out', signal], (text, send) => {
      if (sent || !text.includes('"step":3,')) return;
      sent = true;
      running = workers().length;
      send(signal);
    });
    expect(run.code, run.stderr).toBe(code);
    expect(running).toBe(2);
    expect(await none()).toEqual([]);
    const checkpoints = readdirSync(join(folder.path, signal, 'checkpoints'));
    expect(checkpoints).toHaveLength(signal === 'SIGINT' ? 1 : 0);
  });

  slowTest('a demo gives up in one line when no worker stays up, and saves what they have computed', async () => {
    const args = [...options, '--checkpoint-every', '0', '--workers', '1', '--steps', '2000', '--out', 'none'];
    let begun = false;
    const run = await demo(args, (text) => {
      begun ||= text.includes('"event":"step","step":2,');
      if (begun) for (const pid of workers()) process.kill(pid, 'SIGKILL');
    });
    const last = run.events.filter((e) => e.event === 'step').at(-1)?.step;
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('error LT_CLUSTER_WORKER: no worker stays up');
    expect(run.stderr).toContain(`the checkpoint of step ${last} stands`);
    expect(readdirSync(join(folder.path, 'none', 'checkpoints'))).toEqual([String(last).padStart(6, '0')]);
    expect(await none()).toEqual([]);
  });
});
