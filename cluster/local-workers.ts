import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { LantrainError } from '../src/errors.js';
import { TOKEN_VARIABLE } from '../src/net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../src/net/join-url.js';
import { lastLine, nodeProcess, type ProcessorShare } from '../src/node/node-process.js';
import { packageRoot } from '../src/node/shaders.js';

export interface LocalWorkersOptions {
  readonly count: number;
  /** The join URL with its token, as this machine reaches it. */
  readonly url: string;
  /** The GPU whose name contains this. */
  readonly adapter?: string;
  /** The adapter runs on the processor: workers divide its cores. */
  readonly software: boolean;
  /** Called with one line about a worker that exited. */
  onExit(line: string): void;
  /** Called when no worker stays up. */
  onFailure(why: LantrainError): void;
}

/** A worker that has exited this often is not started again. */
const MOST_EXITS = 5;
const RESTART_MS = 1000;
const STOP_MS = 3000;
/** Characters that are kept of what a worker printed last. */
const MOST_CHARACTERS = 4000;

/**
 * Keeps workers running on this machine, each a process of this package's command line. A worker ends when its IPC
 * channel to this process closes, so none outlives this process, whatever ends it.
 */
export class LocalWorkers {
  readonly #children = new Map<string, ChildProcess>();
  readonly #exits = new Map<string, number>();
  #stopping = false;

  constructor(private readonly options: LocalWorkersOptions) {
    for (let index = 0; index < options.count; index++) this.#start(index);
  }

  /** Ends every worker; resolves when none is left. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const children = [...this.#children.values()];
    const ends = children.map((child) => new Promise((end) => child.once('close', end)));
    for (const child of children) child.kill('SIGTERM');
    const timer = setTimeout(() => {
      for (const child of children) child.kill('SIGKILL');
    }, STOP_MS);
    await Promise.all(ends);
    clearTimeout(timer);
  }

  #start(index: number): void {
    if (this.#stopping) return;
    const { url, adapter } = this.options;
    const name = nameOf(index);
    const { token, ...bare } = parseJoinUrl(url);
    const main = join(packageRoot(), 'dist', 'src', 'cli', 'main.js');
    const own = adapter === undefined ? [] : ['--adapter', adapter];
    const args = [main, 'worker', formatJoinUrl(bare), '--name', name, '--quiet', ...own];
    const start = nodeProcess(args, this.#share);
    const child = spawn(start.command, start.args, {
      // A process group of its own: Ctrl-C reaches only the coordinator, which tells the workers. No message goes over
      // the IPC channel.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...start.env, [TOKEN_VARIABLE]: token },
    });
    this.#children.set(name, child);
    let said = '';
    child.stderr?.on('data', (data) => {
      said = (said + data).slice(-MOST_CHARACTERS);
    });
    child.on('error', (error) => {
      said += `${error.message}\n`;
    });
    child.on('close', (code, signal) => {
      this.#children.delete(name);
      if (code !== 0 && !this.#stopping)
        this.#exited(index, lastLine(said) ?? `it ended by ${signal ?? `code ${code}`}`);
    });
  }

  #exited(index: number, reason: string): void {
    const { count, onExit, onFailure } = this.options;
    const name = nameOf(index);
    const exits = (this.#exits.get(name) ?? 0) + 1;
    this.#exits.set(name, exits);
    const again = exits < MOST_EXITS;
    onExit(`worker ${name} fell: ${reason}; ${again ? 'starting another' : 'it is not started again'}`);
    const lost = [...this.#exits.values()].filter((n) => n >= MOST_EXITS).length;
    if (again) setTimeout(() => this.#start(index), RESTART_MS).unref();
    else if (lost === count) onFailure(new LantrainError('LT_CLUSTER_WORKER', `no worker stays up: ${reason}`));
  }

  /**
   * Each worker's threads on a software adapter; undefined on any other. Workers are pinned to no cores: Mesa's shader cache has a
   * key of its own for each number of cores, so a pinned worker would compile anew what the coordinator has compiled.
   */
  get #share(): ProcessorShare | undefined {
    const { software, count } = this.options;
    return software ? { threads: Math.max(1, Math.floor(availableParallelism() / count)), cores: [] } : undefined;
  }
}

/** a, b, ... z, then 27, 28 ... */
function nameOf(index: number): string {
  return index < 26 ? String.fromCharCode(97 + index) : String(index + 1);
}
