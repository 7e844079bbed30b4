import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import type { JoinUrl } from '../../../src/net/join-url.js';
import type { AttackName, FromAttacker, ToAttacker } from './process.js';

const ROOT = resolve('.');

/** Bundles the attacker's program for Node from these sources and the built `dist/`. `remove` deletes it. */
export async function buildAttacker(): Promise<{ readonly path: string; remove(): void }> {
  const folder = join(ROOT, 'dist', 'test', 'cluster', 'attack');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `attacker-${process.pid}.mjs`);
  await build({
    entryPoints: [join(ROOT, 'test/cluster/attack/process.ts')],
    outfile: path,
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'warning',
    plugins: [
      {
        name: 'built',
        setup({ onResolve }) {
          onResolve({ filter: /^\.\.?\// }, ({ path: asked, importer }) => {
            const place = relative(ROOT, resolve(dirname(importer), asked));
            if (importer === '' || !/^(src|cluster)[\\/]/.test(place)) return undefined;
            return { path: pathToFileURL(join(ROOT, 'dist', place)).href, external: true };
          });
        },
      },
    ],
  });
  return { path, remove: () => rmSync(path, { force: true }) };
}

export interface Begin {
  readonly attack: AttackName;
  readonly target: JoinUrl & { readonly token: string };
  readonly teacher?: JoinUrl & { readonly token: string };
  readonly from: string;
  readonly name: string;
  readonly seed: number;
  readonly renames?: boolean;
  readonly once?: boolean;
}

/** A process that attacks. It ends with this one. */
export class Attacker {
  /** How often its connections ended with each code, in the current attack. */
  closed = new Map<string, number>();
  answers: string[] = [];
  /** Steps of the assignments for which it sent wrong gradients. */
  lies: number[] = [];
  readonly #child: ChildProcess;
  #heard: () => void = () => {};
  #begun = false;
  #idle = true;

  constructor(path: string) {
    this.#child = fork(path, {
      execArgv: [],
      env: { ...process.env, LP_NUM_THREADS: '1' },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    let said = '';
    this.#child.stderr?.on('data', (data) => {
      said = `${said}${data}`.slice(-4000);
    });
    const killIt = () => void this.#child.kill('SIGKILL');
    process.on('exit', killIt);
    this.#child.on('exit', (code) => {
      process.off('exit', killIt);
      if (code !== null && code !== 0) process.stderr.write(`an attacker ended with ${code}:\n${said}\n`);
      this.#heard();
    });
    this.#child.on('message', (message: FromAttacker) => {
      this.#hear(message);
      this.#heard();
    });
  }

  #hear(message: FromAttacker): void {
    if (message.told === 'begun') this.#begun = true;
    else if (message.told === 'idle') this.#idle = true;
    else if (message.told === 'closed') this.closed.set(message.code, (this.closed.get(message.code) ?? 0) + 1);
    else if (message.told === 'answer') this.answers.push(message.text);
    else this.lies.push(message.step);
  }

  /** Resolves once the attack has begun, or was repelled. */
  async begin(attack: Begin, timeoutMs = 60_000): Promise<void> {
    this.closed = new Map();
    this.answers = [];
    this.lies = [];
    this.#begun = false;
    this.#idle = false;
    this.#tell({ type: 'start', renames: false, once: false, ...attack });
    await this.#until(() => this.#begun || this.closed.size > 0, timeoutMs);
  }

  /** Resolves once the attack has ended and all its sockets are closed. */
  async stop(timeoutMs = 20_000): Promise<void> {
    if (this.#idle || !this.#lives) return;
    this.#tell({ type: 'stop' });
    await this.#until(() => this.#idle, timeoutMs);
  }

  async kill(): Promise<void> {
    if (!this.#lives) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  get #lives(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** `LT_CLUSTER_CREDIT 12, ECONNRESET 3`. */
  get ends(): string {
    return [...this.closed]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 3)
      .map(([code, times]) => (times > 1 ? `${code} ${times}` : code))
      .join(', ');
  }

  #tell(message: ToAttacker): void {
    if (this.#child.connected) this.#child.send(message);
  }

  async #until(condition: () => boolean, timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!condition()) {
      if (!this.#lives) throw new Error('the attacker has ended');
      const left = end - performance.now();
      if (left <= 0) throw new Error('the attacker does not answer in time');
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((go) => {
        this.#heard = go;
        timer = setTimeout(go, left);
      });
      clearTimeout(timer);
    }
  }
}
