import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { LantrainError } from '../errors.js';
import { TOKEN_VARIABLE } from '../net/access.js';
import { allowedCores, lastLine, nodeProcess } from '../node/node-process.js';
import { packageRoot } from '../node/shaders.js';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface Launch {
  /** Below `dist/src`; the command line by default. */
  readonly script?: string;
  readonly args: readonly string[];
  /** A software adapter: one driver thread, on a core of its own where the system can do that. */
  readonly core: number | undefined;
  /** By the environment, which no list of processes shows to others. */
  readonly token?: string;
}

/** A child of this process, which ends with it. */
export class Child {
  readonly #process: ChildProcess;
  readonly #closed: Promise<number | null>;
  #stdout = '';
  #stderr = '';

  constructor({ script = 'cli/main.js', args, core, token }: Launch) {
    const main = join(packageRoot(), 'dist/src', script);
    const cores = allowedCores();
    const share = core === undefined ? undefined : { threads: 1, cores: [cores[core % cores.length]] };
    const start = nodeProcess([main, ...args], share);
    const env = { ...process.env, ...start.env, ...(token === undefined ? {} : { [TOKEN_VARIABLE]: token }) };
    const child = spawn(start.command, start.args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    child.stdout?.on('data', (data) => {
      this.#stdout += data;
    });
    child.stderr?.on('data', (data) => {
      this.#stderr = `${this.#stderr}${data}`.slice(-4000);
    });
    this.#process = child;
    this.#closed = new Promise((resolve) => {
      child.on('error', () => resolve(null));
      child.on('close', (code) => {
        running.delete(child);
        resolve(code);
      });
    });
  }

  /** What it printed, once it has ended well. */
  async output(): Promise<string> {
    const code = await this.#closed;
    if (code !== 0) throw this.#failure(code);
    return this.#stdout;
  }

  /** Rejects when it ends; never resolves. */
  async failed(): Promise<never> {
    throw this.#failure(await this.#closed);
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#closed;
  }

  #failure(code: number | null): LantrainError {
    const last = lastLine(this.#stderr) ?? 'it said nothing';
    return new LantrainError('LT_CLUSTER_WORKER', `a process of the bench ended with code ${code}: ${last}`);
  }
}
