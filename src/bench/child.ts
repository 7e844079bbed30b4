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
  /** Path below `dist/src`; default: the command line. */
  readonly script?: string;
  readonly args: readonly string[];
  /**
   * For a software adapter: one driver thread, pinned to this core where the system supports that. Undefined: no
   * limits.
   */
  readonly core: number | undefined;
  /** Passed in the environment, which lists of processes do not show to others. */
  readonly token?: string;
}

/** A child process that ends with this process. */
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

  /** Its standard output, once it has ended with code 0. */
  async output(): Promise<string> {
    const code = await this.#closed;
    if (code !== 0) throw this.#failure(code);
    return this.#stdout;
  }

  /** Rejects when the process ends; never resolves. */
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
