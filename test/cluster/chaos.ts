/**
 * Real processes under real signals: three workers, one killed every few steps and replaced, one stopped for a while;
 * the coordinator is killed during a step and started again. Each round is a run of its own, drawn from the seed. It
 * must end with the digest and the losses of `lantrain train`.
 *
 * The seed fixes what is done at which step. The moment within the step is drawn as well, but its effect depends on the
 * machine.
 *
 *     npm run chaos -- --seconds 600 --seed 7
 */
import { join } from 'node:path';
import { SMALL, workFolder } from '../cli/run.js';
import { type Event, Lantrain, lossesOf, startCoordinator, startWorker } from './processes.js';
import { type Draw, drawnOptions, eventsOf, runByCommandLine, type SeededOptions, seededRounds } from './seeded.js';

export interface ChaosOptions extends SeededOptions {
  /** Number of steps of a round. */
  readonly steps: number;
}

const WORKERS = 3;
/** Milliseconds that a worker sleeps after each micro-batch, so that a signal can hit it during a step. */
const DRAG = ['--drag', '60'];
const STOPPED_MS = 7000;
/** Without a step for this time, the run counts as stuck. */
const STUCK_MS = 90_000;

/** Throws, with the seed in the message, if a round does not end like the single process. */
export function chaos(options: ChaosOptions): Promise<void> {
  return seededRounds('chaos', options, (_, draw, say) => new ChaosRound(draw, options.steps, say).run());
}

class ChaosRound {
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
    readonly draw: Draw,
    readonly steps: number,
    readonly say: (line: string) => void,
  ) {
    this.#killAt = 2 + draw.below(3);
    this.#stopAt = 2 + draw.below(Math.floor(steps / 3));
    this.#restartAt = Math.floor(steps / 2) + draw.below(Math.floor(steps / 3));
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
    return [
      ...SMALL,
      ...['--batch', '8', '--micro-batch', '1', '--steps', String(this.steps), '--eval-every', '5'],
      ...drawnOptions(this.draw),
    ];
  }

  /** Starts a coordinator. After a restart its port and token are the same, so workers need no new URL. */
  async #coordinate(args: readonly string[]): Promise<void> {
    const { coordinator, url } = await startCoordinator(args, this.#folder.path, (event) => {
      if (!this.#isOver) this.#heard(event);
    });
    if (this.#url !== '' && url !== this.#url) throw new Error(`the join URL has changed after a restart`);
    this.#coordinator = coordinator;
    this.#url = url;
  }

  /** Resolves with the exit code of the current coordinator; null if it was killed, once its successor runs. */
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

  /** Does what is due after this step. A worker is killed or stopped only while another one works. */
  #disturb(step: number): void {
    if (step >= this.#restartAt && !this.#restarting) {
      this.#restartAt = Number.POSITIVE_INFINITY;
      this.#restarting = this.#restart(step).catch((error) => this.#fail(String(error)));
      return;
    }
    const able = [...this.#joined].filter((name) => !this.#stopped.has(this.#names.get(name) as Lantrain));
    // Before the stop, kills leave two workers, so that one can be stopped.
    if (able.length < (step < this.#stopAt && this.#stopAt < Number.POSITIVE_INFINITY ? 3 : 2)) return;
    const name = able[this.draw.below(able.length)];
    const victim = this.#names.get(name) as Lantrain;
    const delay = this.draw.below(250);
    if (step >= this.#stopAt) {
      this.#stopAt = Number.POSITIVE_INFINITY;
      setTimeout(() => this.#stop(name, victim, step), delay);
    } else if (step >= this.#killAt) {
      this.#killAt = step + 2 + this.draw.below(4);
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
    const delay = this.draw.below(200);
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

  /** Ends the round with a failure: kills the coordinator, so that nothing waits for it any longer. */
  #fail(why: string): void {
    this.say(`failed: ${why}`);
    this.#failure ??= why;
    this.#coordinator?.signal('SIGKILL');
  }

  #compare(alone: Lantrain): void {
    if (this.#failure !== undefined) throw new Error(this.#failure);
    const digest = this.#coordinator?.digest();
    if (digest !== alone.digest()) throw new Error(`digest ${digest} instead of ${alone.digest()}`);
    const kept = lossesOf(eventsOf(join(this.#folder.path, 'run')));
    if (JSON.stringify(kept) !== JSON.stringify(lossesOf(alone.events)))
      throw new Error('the metrics are not those of the single process');
  }
}

runByCommandLine(import.meta.url, { steps: '60' }, async (options, more) => {
  const steps = Number(more.steps);
  if (!(steps >= 12)) throw new Error('--steps is a number of at least 12');
  await chaos({ ...options, steps });
});
