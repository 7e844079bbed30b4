/** A coordinator with honest workers, and measurements of it from outside. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { onlyFromCoordinator } from '../../../cluster/protocol/protocol.js';
import { loadOrCreateAccess } from '../../../src/net/access.js';
import { type JoinUrl, parseJoinUrl } from '../../../src/net/join-url.js';
import { SMALL, workFolder } from '../../cli/run.js';
import { type Event, Lantrain, lossesOf, startCoordinator, startWorker } from '../processes.js';
import { Draw, eventsOf } from '../seeded.js';
import { connectAs, pause } from './attack-context.js';

/** Eight micro-batches a step; with the honest worker's sleep about eight steps a second. */
const MODEL = [
  ...SMALL,
  ...['--batch', '8', '--micro-batch', '1', '--eval-every', '10', '--eval-batches', '1'],
  ...['--dropout', '0.1', '--schedule', 'constant', '--warmup', '0'],
];
const DRAG_MS = '12';
const ENDLESS = 1_000_000;
/** Longer than any honest join. */
const JOIN_MS = 6_000;
const MIB = 2 ** 20;

export interface AttackedClusterOptions {
  readonly secure?: boolean;
  readonly honest?: number;
  readonly audit?: number;
  /** The run ends after this many steps. */
  readonly steps?: number;
  /** Options of the run, which `train` gets as well. */
  readonly seed?: number;
  /** Options of the coordinator that `train` does not have. */
  readonly more?: readonly string[];
  /** Called once workers can join, before the honest ones are started. */
  readonly onListening?: (cluster: AttackedCluster) => void;
}

/** How a run ended. */
export interface Ending {
  readonly code: number | null;
  readonly step: number;
  /** Digest, losses and evaluations equal those of `train`. */
  readonly isExact: boolean;
  /** The run reports that it is not exact, by event, remark and exit code. */
  readonly isMarked: boolean;
  readonly why: string;
}

export class AttackedCluster {
  readonly #folder = workFolder();
  readonly #workers: Lantrain[] = [];
  readonly #stepsAt: number[] = [];
  #coordinator: Lantrain | undefined;
  #target: (JoinUrl & { readonly token: string }) | undefined;
  #joins = 0;
  #url = '';

  private constructor(readonly options: AttackedClusterOptions) {}

  /** Starts a coordinator with honest workers; resolves once it trains. */
  static async open(options: AttackedClusterOptions = {}): Promise<AttackedCluster> {
    const cluster = new AttackedCluster(options);
    try {
      await cluster.#start();
      return cluster;
    } catch (error) {
      await cluster.remove();
      throw error;
    }
  }

  get coordinator(): Lantrain {
    if (!this.#coordinator) throw new Error('there is no coordinator');
    return this.#coordinator;
  }

  get target(): JoinUrl & { readonly token: string } {
    if (!this.#target) throw new Error('there is no coordinator');
    return this.#target;
  }

  get events(): readonly Event[] {
    return this.coordinator.events;
  }

  #model(steps: number): string[] {
    const seed = `${this.options.seed ?? 42}`;
    return [...MODEL, '--seed', seed, '--steps', `${steps}`, '--checkpoint-every', '0'];
  }

  async #start(): Promise<void> {
    const { secure = false, honest = 1, audit = 0, steps = ENDLESS, more = [] } = this.options;
    const args = [...this.#model(steps), '--out', 'run', '--audit', `${audit}`];
    const all = [...args, ...(secure ? [] : ['--plain']), ...more];
    const { coordinator, url } = await startCoordinator(all, this.#folder.path, ({ event }) => {
      if (event === 'step') this.#stepsAt.push(performance.now());
    });
    this.#coordinator = coordinator;
    this.#url = url;
    const { token } = await loadOrCreateAccess(join(this.#folder.path, 'run', 'cluster'));
    this.#target = { ...parseJoinUrl(url), token };
    this.options.onListening?.(this);
    for (let i = 1; i <= honest; i++) this.startHonest(`good${i}`);
    if (honest > 0 && !(await this.stepsLater(5, 120_000)) && this.options.steps === undefined)
      throw new Error(`it does not train: ${coordinator.text.slice(-2000)}`);
  }

  startHonest(name: string): void {
    const plain = this.options.secure ? [] : ['--plain'];
    this.#workers.push(startWorker(this.#url, name, this.#folder.path, ...plain, '--drag', DRAG_MS));
  }

  get step(): number {
    return this.#stepsAt.length;
  }

  /** False if the step does not come in time, or the coordinator has ended. */
  async stepsLater(steps: number, timeoutMs: number): Promise<boolean> {
    const [wanted, end] = [this.step + steps, performance.now() + timeoutMs];
    while (this.step < wanted && performance.now() < end && this.coordinator.running) await pause(20);
    return this.step >= wanted;
  }

  /** Steps a second between two moments of `performance.now()`. */
  rate(from: number, to: number): number {
    return (1000 * this.#stepsAt.filter((at) => at >= from && at < to).length) / (to - from);
  }

  /** The fraction of the run's tokens that the workers are credited with. Makes the coordinator write its totals. */
  async shareOf(workers: RegExp): Promise<number> {
    const written = () => eventsOf(join(this.#folder.path, 'run')).filter(({ event }) => event === 'workers');
    const before = written().length;
    this.coordinator.signal('SIGUSR1');
    const end = performance.now() + 10_000;
    while (written().length === before && performance.now() < end && this.coordinator.running) await pause(100);
    const told = written().flatMap((event) => event.workers as { readonly name: string; readonly tokens: number }[]);
    const sum = (all: typeof told) => all.reduce((tokens, one) => tokens + one.tokens, 0);
    return told.length === 0 ? 0 : sum(told.filter(({ name }) => workers.test(name))) / sum(told);
  }

  /** Resident memory of the coordinator. */
  memoryMiB(): number {
    try {
      const status = readFileSync(`/proc/${this.coordinator.child.pid}/status`, 'utf8');
      return (1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0)) / MIB;
    } catch {
      return 0;
    }
  }

  /** Milliseconds until an honest worker of another address has its `welcome`. */
  async joinMs(): Promise<number> {
    const stop = new AbortController();
    const n = ++this.#joins;
    const started = performance.now();
    const timer = setTimeout(() => stop.abort(), JOIN_MS);
    const late = pause(JOIN_MS).then(() => {
      throw new Error('late');
    });
    late.catch(() => {});
    try {
      const joined = this.#join(`127.0.${200 + (n >> 8)}.${n & 255}`, stop.signal);
      joined.catch(() => {});
      await Promise.race([joined, late]);
      return performance.now() - started;
    } catch {
      // Not admitted at all within that time.
      return JOIN_MS;
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  async #join(from: string, signal: AbortSignal): Promise<void> {
    const none = () => Promise.reject(new Error('it does not compute'));
    const context = {
      target: this.target,
      from,
      name: 'visitor',
      draw: new Draw(1),
      signal,
      tell: () => {},
      engines: none,
    };
    for (;;) {
      try {
        const { connection } = await connectAs(context);
        await new Promise<void>((welcome, refused) => {
          connection.onControl = onlyFromCoordinator({ welcome: () => welcome(), probe: () => {} });
          connection.onClose = refused;
          connection.send({ type: 'join', name: context.name, adapter: 'none' });
        });
        connection.send({ type: 'leave', reason: 'only a visit' });
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        await pause(1_000);
      }
    }
  }

  /** Ends the run if it still runs, and compares it with `train` over the same number of steps. */
  async end(timeoutMs = 60_000): Promise<Ending> {
    const { coordinator } = this;
    if (this.options.steps === undefined) coordinator.signal('SIGINT');
    const timer = setTimeout(() => coordinator.signal('SIGKILL'), timeoutMs);
    const code = await coordinator.ended;
    clearTimeout(timer);
    const events = eventsOf(join(this.#folder.path, 'run'));
    const step = Math.max(0, ...events.filter(({ event }) => event === 'step').map((e) => Number(e.step)));
    const digest = events.findLast(
      ({ event, step: at }) => (event === 'checkpoint' || event === 'done') && at === step,
    )?.digest;
    const args = ['train', ...this.#model(step), '--out', 'alone', '--json'];
    const alone = new Lantrain(args, this.#folder.path);
    if ((await alone.ended) !== 0) throw new Error(`train failed: ${alone.text}`);
    const course = (all: readonly Event[]) =>
      all.filter(({ event, step: at }) => event === 'step' || (event === 'eval' && Number(at) < step));
    const [wanted, got] = [course(alone.events), course(events)].map((all) =>
      lossesOf(all).map((e) => JSON.stringify(e)),
    );
    const sameDigest = digest !== undefined && digest === alone.digest();
    const at = wanted.findIndex((one, i) => one !== got[i]);
    const differs = at < 0 ? (got.length > wanted.length ? step : undefined) : Number(course(alone.events)[at].step);
    // A step's event holds the norm of its own gradient, so a wrong gradient shows in its own step.
    const marks = events.filter(({ event }) => event === 'inexact').map((e) => Number(e.step));
    const isEarly = marks.length > 0 && (differs === undefined || Math.min(...marks) <= differs);
    const isMarked = code === 1 && isEarly && /not exact since step/.test(coordinator.text);
    const why = [
      ...(sameDigest ? [] : [`digest ${String(digest).slice(0, 12)}`]),
      ...(differs === undefined ? [] : [`other than train from step ${differs} on`]),
      ...(marks.length > 0 ? [`marked since ${Math.min(...marks)}`] : []),
    ].join(', ');
    return { code, step, isExact: sameDigest && differs === undefined, isMarked, why };
  }

  async remove(): Promise<void> {
    const all = [...this.#workers, ...(this.#coordinator ? [this.#coordinator] : [])];
    for (const one of all) one.signal('SIGKILL');
    await Promise.all(all.map((one) => one.ended));
    this.#folder.remove();
  }
}
