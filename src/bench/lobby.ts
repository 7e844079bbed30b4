import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { TOKEN_VARIABLE } from '../../cluster/access/access.js';
import type { ClusterEngine } from '../../cluster/coordinator/engine.js';
import { type MessageFromWorker, onlyFromWorker, stopBecause } from '../../cluster/protocol/protocol.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import { LantrainError } from '../errors.js';
import { packageRoot } from '../node/shaders.js';

type Join = MessageFromWorker<'join'>;

/**
 * Workers that are connected and wait to be measured. A worker that is not in the lobby is admitted to an engine; one
 * whose connection is closed comes back by itself, under the same name.
 */
export class Lobby {
  readonly #waiting = new Map<string, { readonly connection: CoordinatorConnection; readonly join: Join }>();
  #notify: () => void = () => {};

  /** The server's `onConnection`. */
  readonly enter = (connection: CoordinatorConnection): void => {
    let name: string | undefined;
    connection.onClose = () => {
      if (name !== undefined && this.#waiting.get(name)?.connection === connection) this.#waiting.delete(name);
    };
    connection.onControl = onlyFromWorker({
      join: (join) => {
        name = join.name;
        this.#waiting.set(name, { connection, join });
        this.#notify();
      },
      leave: ({ reason }) => connection.close(new LantrainError('LT_CLUSTER_CLOSED', reason)),
    });
  };

  get names(): string[] {
    return [...this.#waiting.keys()].sort();
  }

  /** Resolves when `ready` holds of the names that wait; `failed` may reject earlier. Throws LT_CLUSTER_TIMEOUT. */
  async until(ready: (names: readonly string[]) => boolean, timeoutMs: number, failed: Promise<never>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const done = new Promise<void>((resolve, reject) => {
      const look = () => {
        if (ready(this.names)) resolve();
      };
      this.#notify = look;
      const waited = `${this.names.length} workers are here after ${timeoutMs / 1000} s, which are not enough`;
      if (timeoutMs > 0) timer = setTimeout(() => reject(new LantrainError('LT_CLUSTER_TIMEOUT', waited)), timeoutMs);
      look();
    });
    try {
      await Promise.race([done, failed]);
    } finally {
      clearTimeout(timer);
      this.#notify = () => {};
    }
  }

  /** Hands a worker to an engine as if it had just connected. */
  admit(name: string, engine: ClusterEngine): void {
    const worker = this.#waiting.get(name);
    if (worker === undefined) throw new LantrainError('LT_CLUSTER_CLOSED', `${name} has left`);
    this.#waiting.delete(name);
    engine.admit(worker.connection);
    worker.connection.onControl.join(worker.join);
  }

  /** Sends those who still wait home. */
  dismiss(): void {
    for (const { connection } of this.#waiting.values()) connection.send(stopBecause('done'));
  }
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Whether the first of `program` in PATH can be had. */
function has(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));
}

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
    const node = [process.execPath, join(packageRoot(), 'dist/src', script), ...args];
    const pinned = core !== undefined && has('taskset');
    const [command, ...rest] = pinned ? ['taskset', '-c', String(core % availableParallelism()), ...node] : node;
    const env = {
      ...process.env,
      ...(core === undefined ? {} : { LP_NUM_THREADS: '1' }),
      ...(token === undefined ? {} : { [TOKEN_VARIABLE]: token }),
    };
    const child = spawn(command, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] });
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
    const lines = this.#stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Warning: maxDynamic'));
    const last = lines.at(-1) ?? 'it said nothing';
    return new LantrainError('LT_CLUSTER_WORKER', `a process of the bench ended with code ${code}: ${last}`);
  }
}
