/**
 * Real processes under real signals: three workers, one killed every few steps and replaced, one stopped for a while,
 * the coordinator killed in the middle of a step and started again. Each round is a run of its own, drawn from the seed;
 * it must end with the digest, and with the losses, of `lantrain train`.
 *
 * The seed fixes what is done at which step; the moment within the step is drawn as well, but what it hits is the
 * machine's affair.
 *
 *     npm run chaos -- --seconds 600 --seed 7
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SMALL, workFolder } from '../cli/run.js';
import { type Event, Lantrain, lossesOf, startCoordinator, startWorker } from './processes.js';

export interface ChaosOptions {
  readonly seed: number;
  /** Rounds are begun until so much time has passed; there is at least one. */
  readonly seconds: number;
  /** Updates of a round. */
  readonly steps: number;
  readonly log: (line: string) => void;
}

const WORKERS = 3;
/** Milliseconds that a worker sleeps after each micro-batch, so that a signal can meet it in the middle of a step. */
const DRAG = ['--drag', '60'];
const STOPPED_MS = 7000;
/** Without a step for so long, the run has come to a stop. */
const STUCK_MS = 90_000;

/** Throws, with the seed in the message, when a round does not end as the single process does. */
export async function chaos({ seed, seconds, steps, log }: ChaosOptions): Promise<void> {
  const started = performance.now();
  let round = 0;
  do {
    const say = (line: string) => {
      const at = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
      log(`${at} s  seed ${seed}, round ${round}: ${line}`);
    };
    await new Round(seed, round, steps, say).run();
    round++;
  } while (performance.now() - started < 1000 * seconds);
}

class Round {
  readonly #random: () => number;
  readonly #folder = workFolder();
  readonly #workers = new Set<Lantrain>();
  readonly #names = new Map<string, Lantrain>();
  readonly #joined = new Set<string>();
  readonly #stopped = new Set<Lantrain>();
  #coordinator: Lantrain | undefined;
  #url = '';
  #started = 0;
  #killAt: number;
  #stopAt: number;
  #restartAt: number;
  #movedAt = performance.now();
  #restarting: Promise<void> | undefined;
  #failure: string | undefined;
  #isOver = false;

  constructor(
    readonly seed: number,
    readonly round: number,
    readonly steps: number,
    readonly say: (line: string) => void,
  ) {
    this.#random = mulberry(seed * 7919 + round);
    this.#killAt = 2 + this.#below(3);
    this.#stopAt = 2 + this.#below(Math.floor(steps / 3));
    this.#restartAt = Math.floor(steps / 2) + this.#below(Math.floor(steps / 3));
  }

  async run(): Promise<void> {
    const options = this.#options();
    this.say(options.slice(SMALL.length).join(' '));
    const watch = setInterval(() => this.#checkProgress(), 1000);
    try {
      const alone = new Lantrain(['train', ...options, '--out', 'alone', '--json'], this.#folder.path);
      if ((await alone.ended) !== 0) throw new Error(`the single process failed: ${alone.text}`);
      await this.#coordinate([...options, '--out', 'run', '--checkpoint-every', '4', '--min-workers', `${WORKERS}`]);
      for (let i = 0; i < WORKERS; i++) this.#startWorker();
      for (let code = await this.#ended(); code !== 0; code = await this.#ended())
        if (code !== null || this.#failure !== undefined)
          throw new Error(this.#failure ?? `the coordinator ended with ${code}: ${this.#coordinator?.text}`);
      this.#compare(alone);
      this.say(`digest ${String(alone.digest()).slice(0, 16)}, as the single process; ${this.#started} workers in all`);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`chaos with --seed ${this.seed}, round ${this.round}: ${message}`, { cause: error });
    } finally {
      this.#isOver = true;
      clearInterval(watch);
      const all = [...this.#workers, ...(this.#coordinator ? [this.#coordinator] : [])];
      for (const process of all) process.signal('SIGKILL');
      await Promise.all(all.map((process) => process.ended));
      this.#folder.remove();
    }
  }

  #options(): string[] {
    const pick = (...choices: string[][]) => choices[this.#below(choices.length)];
    return [
      ...SMALL,
      ...['--batch', '8', '--micro-batch', '1', '--steps', String(this.steps), '--eval-every', '5'],
      ...pick(['--tie'], ['--no-tie']),
      ...pick(['--dropout', '0'], ['--dropout', '0.1']),
      ...pick(['--clip', '0'], ['--clip', '0.5']),
    ];
  }

  /** Starts a coordinator; after a restart its port and token are the old ones, so workers need not be told. */
  async #coordinate(args: readonly string[]): Promise<void> {
    const { coordinator, url } = await startCoordinator(args, this.#folder.path, (event) => {
      if (!this.#isOver) this.#heard(event);
    });
    if (this.#url !== '' && url !== this.#url) throw new Error(`the join URL has changed after a restart`);
    this.#coordinator = coordinator;
    this.#url = url;
  }

  /** The exit code of the coordinator that runs now; null when it was killed, once another one is there. */
  async #ended(): Promise<number | null> {
    const code = (await this.#coordinator?.ended) ?? null;
    await this.#restarting;
    this.#restarting = undefined;
    return code;
  }

  #startWorker(): void {
    const name = `w${++this.#started}`;
    const worker = startWorker(this.#url, name, this.#folder.path, ...DRAG);
    this.#workers.add(worker);
    this.#names.set(name, worker);
    worker.ended.then((code) => {
      this.#workers.delete(worker);
      this.#joined.delete(name);
      if (code !== null && code !== 0) this.#fail(`worker ${name} ended with ${code}: ${worker.text.slice(-2000)}`);
    });
  }

  #heard(event: Event): void {
    const { event: kind, worker, step } = event;
    if (kind === 'join') this.#joined.add(String(worker));
    if (kind === 'leave') this.#joined.delete(String(worker));
    if (['join', 'leave', 'fence', 'refuse'].includes(kind))
      this.say(`step ${step}: ${kind} ${worker}, ${String(event.reason)}`);
    if (kind === 'step' || kind === 'eval') this.#movedAt = performance.now();
    if (kind !== 'step') return;
    this.#disturb(Number(step));
  }

  /** What is due after this step. A worker is taken only while another one is at work. */
  #disturb(step: number): void {
    if (step >= this.#restartAt && !this.#restarting) {
      this.#restartAt = Number.POSITIVE_INFINITY;
      this.#restarting = this.#restart(step).catch((error) => this.#fail(String(error)));
      return;
    }
    const able = [...this.#joined].filter((name) => !this.#stopped.has(this.#names.get(name) as Lantrain));
    // Until one was stopped, kills leave two of which one can be.
    if (able.length < (step < this.#stopAt && this.#stopAt < Number.POSITIVE_INFINITY ? 3 : 2)) return;
    const name = able[this.#below(able.length)];
    const victim = this.#names.get(name) as Lantrain;
    const delay = this.#below(250);
    if (step >= this.#stopAt) {
      this.#stopAt = Number.POSITIVE_INFINITY;
      setTimeout(() => this.#stop(name, victim, step), delay);
    } else if (step >= this.#killAt) {
      this.#killAt = step + 2 + this.#below(4);
      setTimeout(() => {
        if (this.#isOver) return;
        this.say(`SIGKILL ${name}, ${delay} ms after step ${step}`);
        victim.signal('SIGKILL');
        this.#startWorker();
      }, delay);
    }
  }

  #stop(name: string, victim: Lantrain, step: number): void {
    if (this.#isOver) return;
    this.say(`SIGSTOP ${name} after step ${step}, for ${STOPPED_MS} ms`);
    this.#stopped.add(victim);
    victim.signal('SIGSTOP');
    setTimeout(() => {
      this.say(`SIGCONT ${name}`);
      this.#stopped.delete(victim);
      victim.signal('SIGCONT');
    }, STOPPED_MS);
  }

  async #restart(step: number): Promise<void> {
    const delay = this.#below(200);
    await new Promise((go) => setTimeout(go, delay));
    this.say(`SIGKILL the coordinator, ${delay} ms after step ${step}`);
    const old = this.#coordinator;
    old?.signal('SIGKILL');
    await old?.ended;
    this.#joined.clear();
    await this.#coordinate(['--resume', 'run']);
    this.say('the coordinator is back');
  }

  #checkProgress(): void {
    if (performance.now() - this.#movedAt > STUCK_MS) this.#fail(`no step for ${STUCK_MS / 1000} s`);
  }

  /** Ends the round: the coordinator goes, and whoever waits for it sees why. */
  #fail(why: string): void {
    this.say(`failed: ${why}`);
    this.#failure ??= why;
    this.#coordinator?.signal('SIGKILL');
  }

  #compare(alone: Lantrain): void {
    if (this.#failure !== undefined) throw new Error(this.#failure);
    const digest = this.#coordinator?.digest();
    if (digest !== alone.digest()) throw new Error(`digest ${digest} instead of ${alone.digest()}`);
    const lines = readFileSync(join(this.#folder.path, 'run', 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n');
    const kept = lossesOf(lines.map((line) => JSON.parse(line) as Event));
    if (JSON.stringify(kept) !== JSON.stringify(lossesOf(alone.events)))
      throw new Error('the metrics are not those of the single process');
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * Math.max(1, limit));
  }
}

/** Mulberry32 by Tommy Ettinger: numbers in [0, 1) from a 32-bit seed. */
function mulberry(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '300' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      steps: { type: 'string', default: '60' },
    },
  });
  const [seconds, seed, steps] = [values.seconds, values.seed, values.steps].map(Number);
  if (![seconds, seed, steps].every((n) => Number.isFinite(n) && n >= 0) || steps < 12)
    throw new Error('--seconds, --seed and --steps (12 or more) are numbers');
  await chaos({ seconds, seed, steps, log: (line) => void process.stdout.write(`${line}\n`) });
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  main().then(
    () => process.exit(0),
    (error: Error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    },
  );
