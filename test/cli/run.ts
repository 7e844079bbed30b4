import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The events printed by `--json`. */
  readonly events: readonly { readonly event: string; readonly [key: string]: unknown }[];
}

const MAIN = resolve('dist/src/cli/main.js');

/** Runs the built command line in `cwd`; `onOutput` sees standard output and error as they come. */
export function lantrain(
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: Record<string, string>;
    readonly onOutput?: (text: string, signal: (s: NodeJS.Signals) => void) => void;
    /** Options of Node. */
    readonly nodeArgs?: readonly string[];
    /** Milliseconds after which it is killed; default: never. */
    readonly mostMs?: number;
  } = {},
): Promise<Finished> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [...(options.nodeArgs ?? []), MAIN, ...args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
    });
    const late = options.mostMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), options.mostMs);
    let stdout = '';
    let stderr = '';
    const see = (text: string) => options.onOutput?.(text, (s) => void child.kill(s));
    child.stdout.on('data', (data) => {
      stdout += data;
      see(String(data));
    });
    child.stderr.on('data', (data) => {
      stderr += data;
      see(String(data));
    });
    child.on('error', fail);
    child.on('close', (code) => {
      clearTimeout(late);
      const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
      done({ code, stdout, stderr: withoutDriverNoise(stderr), events: lines.map((line) => JSON.parse(line)) });
    });
  });
}

/** Dawn prints two warnings about every adapter with many dynamic buffers. */
function withoutDriverNoise(text: string): string {
  return text.replace(/^Warning: maxDynamic.*\n/gm, '');
}

/** A new folder with a text of about 4,000 bytes in `text.txt`. `remove` deletes it. */
export function workFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'lantrain-'));
  const words = ['the', 'sea', 'was', 'calm', 'and', 'grey', 'whale', 'ship', 'rose', 'under', 'a', 'pale', 'moon'];
  let text = '';
  for (let i = 0; text.length < 4000; i++) text += `${words[(i * i + 3 * i) % words.length]} `;
  writeFileSync(join(path, 'text.txt'), text);
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Options of a model that trains in a second. */
export const SMALL = [
  '--data',
  'text.txt',
  '--tokenizer',
  'bytes',
  '--layers',
  '1',
  '--width',
  '32',
  '--heads',
  '2',
  '--context',
  '16',
  '--batch',
  '4',
  '--micro-batch',
  '2',
  '--eval-every',
  '4',
  '--eval-batches',
  '2',
  '--sample-tokens',
  '0',
];
