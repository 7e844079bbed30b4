import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { TOKEN_VARIABLE } from '../../cluster/access/access.js';
import { formatJoinUrl, parseJoinUrl } from '../../cluster/access/join-url.js';
import { LantrainError } from '../errors.js';
import { pasteable } from '../node/invocation.js';
import { allowedCores, lastLine, nodeProcess, type ProcessorShare } from '../node/node-process.js';
import type { TrainCommand } from '../run/session.js';
import { coordinate, type Listening } from './coordinator.js';

export interface DemoCommand extends TrainCommand {
  readonly workers: number;
}

/** `lantrain demo`: a coordinator in this process and workers on this machine, as child processes. */
export async function demo(command: DemoCommand): Promise<number> {
  let workers: LocalWorkers | undefined;
  try {
    const code = await coordinate({
      ...command,
      verb: 'demo',
      host: '127.0.0.1',
      port: 0,
      minWorkers: 1,
      exact: false,
      audit: 0,
      // Nothing leaves this machine.
      plain: true,
      // The owner has compiled every kernel by now, so the workers find them in the driver's cache.
      onListening: (listening) => {
        workers = new LocalWorkers(command, listening);
      },
    });
    if (code === 0 && !command.json)
      process.stdout.write(`more machines: ${pasteable(['coordinator'])}, then on each the command that it prints\n`);
    return code;
  } finally {
    await workers?.stop();
  }
}

/** A worker that falls so often is not started again. */
const MOST_FALLS = 5;
const RESTART_MS = 1000;
const STOP_MS = 3000;

/** Keeps a number of workers running on this machine. None of them outlives this process, whatever ends it. */
class LocalWorkers {
  readonly #children = new Map<string, ChildProcess>();
  readonly #cores = allowedCores();
  readonly #falls = new Map<string, number>();
  readonly #killAll = () => {
    for (const child of this.#children.values()) child.kill('SIGKILL');
  };
  #stopping = false;

  constructor(
    readonly command: DemoCommand,
    readonly listening: Listening,
  ) {
    process.on('exit', this.#killAll);
    for (let index = 0; index < command.workers; index++) this.#start(index);
  }

  /** Ends every worker; resolves when none is left. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const ends = [...this.#children.values()].map((child) => new Promise((end) => child.once('close', end)));
    for (const child of this.#children.values()) child.kill('SIGTERM');
    const timer = setTimeout(this.#killAll, STOP_MS);
    await Promise.all(ends);
    clearTimeout(timer);
    process.off('exit', this.#killAll);
  }

  #start(index: number): void {
    if (this.#stopping) return;
    const name = nameOf(index);
    const { token, ...url } = parseJoinUrl(this.listening.url);
    const adapter = this.command.adapter === undefined ? [] : ['--adapter', this.command.adapter];
    const main = fileURLToPath(new URL('./main.js', import.meta.url));
    const args = [main, 'worker', formatJoinUrl(url), '--name', name, '--quiet', ...adapter];
    const start = nodeProcess(args, this.#shareOf(index));
    const child = spawn(start.command, start.args, {
      // A group of its own: Ctrl-C reaches the coordinator alone, which tells the workers. The channel is never used,
      // but a worker ends when it closes.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...start.env, [TOKEN_VARIABLE]: token },
    });
    this.#children.set(name, child);
    let said = '';
    child.stderr?.on('data', (data) => {
      said = (said + data).slice(-4000);
    });
    child.on('error', (error) => {
      said += `${error.message}\n`;
    });
    child.on('close', (code, signal) => {
      this.#children.delete(name);
      if (code !== 0 && !this.#stopping) this.#fell(index, lastLine(said) ?? `it ended by ${signal ?? `code ${code}`}`);
    });
  }

  #fell(index: number, reason: string): void {
    const name = nameOf(index);
    const falls = (this.#falls.get(name) ?? 0) + 1;
    this.#falls.set(name, falls);
    const again = falls < MOST_FALLS;
    this.listening.note(`worker ${name} fell: ${reason}; ${again ? 'starting another' : 'it is not started again'}`);
    if (again) setTimeout(() => this.#start(index), RESTART_MS).unref();
    else if (
      this.#children.size === 0 &&
      [...this.#falls.values()].filter((n) => n >= MOST_FALLS).length === this.command.workers
    )
      this.listening.fail(new LantrainError('LT_CLUSTER_WORKER', `no worker stays up: ${reason}`));
  }

  /** On a software adapter, the cores that are this worker's own. */
  #shareOf(index: number): ProcessorShare | undefined {
    if (!this.listening.software) return undefined;
    const threads = Math.max(1, Math.floor(this.#cores.length / this.command.workers));
    const own = this.#cores.slice(index * threads, (index + 1) * threads);
    return { threads, cores: own.length === threads ? own : [] };
  }
}

/** a, b, ... z, then 27, 28 ... */
function nameOf(index: number): string {
  return index < 26 ? String.fromCharCode(97 + index) : String(index + 1);
}
