import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { formatJoinUrl, parseJoinUrl } from '../../src/net/join-url.js';

export interface Event {
  readonly event: string;
  readonly [key: string]: unknown;
}

const MAIN = resolve('dist/src/cli/main.js');

/** A process of the built command line. It ends with this one. */
export class Lantrain {
  readonly child: ChildProcess;
  readonly events: Event[] = [];
  /** Its standard error, and lines of standard output that are no events. */
  text = '';
  readonly #ended: Promise<number | null>;
  #changed: () => void = () => {};

  constructor(
    args: readonly string[],
    cwd: string,
    onEvent: (event: Event) => void = () => {},
    environment: Readonly<Record<string, string>> = {},
    /** Alternative destination of standard output. */
    to: { readonly stdout?: number } = {},
  ) {
    // One driver thread each, because several processes share the machine.
    const env = { ...process.env, LP_NUM_THREADS: '1', ...environment };
    this.child = spawn(process.execPath, [MAIN, ...args], { cwd, env, stdio: ['ignore', to.stdout ?? 'pipe', 'pipe'] });
    const killIt = () => void this.child.kill('SIGKILL');
    process.on('exit', killIt);
    const { stdout, stderr } = this.child;
    if (!stderr) throw new Error('no pipe');
    const lines = stdout && createInterface(stdout);
    lines?.on('line', (line) => {
      if (line.startsWith('{')) {
        const event = JSON.parse(line) as Event;
        this.events.push(event);
        onEvent(event);
      } else this.text += `${line}\n`;
      this.#changed();
    });
    stderr.on('data', (data) => {
      this.text += data;
      this.#changed();
    });
    this.#ended = new Promise((end, fail) => {
      this.child.on('error', fail);
      this.child.on('close', (code) => {
        process.off('exit', killIt);
        end(code);
        this.#changed();
      });
    });
  }

  /** Resolves with the exit code; null after a signal. */
  get ended(): Promise<number | null> {
    return this.#ended;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Closes the reader of its output. */
  stopReading(): void {
    this.child.stdout?.destroy();
    this.child.stderr?.destroy();
  }

  digest(): unknown {
    return this.events.find((e) => e.event === 'done')?.digest;
  }

  /** Resolves with the first match in `text`; rejects if the process ends before. */
  async printed(pattern: RegExp): Promise<string> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) return match[1] ?? match[0];
      if (!this.running) throw new Error(`it ended before it printed ${pattern}:\n${this.text}`);
      await new Promise<void>((go) => {
        this.#changed = go;
      });
    }
  }
}

const JOIN = /LANTRAIN_TOKEN=(\S+) .* worker (wss?:\S+)/;

/** The full join URL, with the token from the command that a coordinator printed. */
export async function joinUrlOf(coordinator: Lantrain): Promise<string> {
  await coordinator.printed(JOIN);
  const [, token, url] = JOIN.exec(coordinator.text) ?? [];
  return formatJoinUrl({ ...parseJoinUrl(url), token });
}

/** Starts a coordinator on this machine; resolves with it and its join URL once it listens. */
export async function startCoordinator(
  args: readonly string[],
  cwd: string,
  onEvent?: (event: Event) => void,
  environment?: Readonly<Record<string, string>>,
): Promise<{ readonly coordinator: Lantrain; readonly url: string }> {
  const all = ['coordinator', '--listen', '127.0.0.1:0', ...args, '--json'];
  const coordinator = new Lantrain(all, cwd, onEvent, environment);
  return { coordinator, url: await joinUrlOf(coordinator) };
}

export function startWorker(url: string, name: string, cwd: string, ...args: string[]): Lantrain {
  const { token = '', ...rest } = parseJoinUrl(url);
  const environment = { LANTRAIN_TOKEN: token };
  return new Lantrain(['worker', formatJoinUrl(rest), '--name', name, ...args], cwd, undefined, environment);
}

/** The percentage of tokens that a worker computed, from the coordinator's last lines. */
export function partOf(coordinator: Lantrain, worker: string): number {
  const match = new RegExp(`worker   ${worker}: .*\\((\\d+) %\\)`).exec(coordinator.text);
  return Number(match?.[1] ?? 0);
}

/** The link that controls a run in `cwd`. Without a terminal, a run prints only the name of its token's file. */
export async function adminLinkOf(run: Lantrain, cwd: string): Promise<string> {
  const said = /admin {4}(https?:\S+)ADMIN with what is in (.+) for ADMIN/;
  await run.printed(said);
  const [, link, file] = said.exec(run.text) ?? [];
  return link + readFileSync(join(cwd, file), 'utf8').trim();
}

/** A run's events of steps and evaluations, without times. */
export function lossesOf(events: readonly Event[]): readonly unknown[] {
  return events
    .filter(({ event }) => event === 'step' || event === 'eval' || event === 'sample')
    .map(({ tokensPerSecond: _, ...rest }) => rest);
}
