/**
 * Runs in real processes that are ended again and again, in every way and at any moment: `train`, and a coordinator
 * whose workers come and go. An ending may lose at most the current step, and what the process printed must be true. At
 * its end the run must have the digest and the metrics of an undisturbed `lantrain train`.
 *
 * The seed fixes what is done after which step. The moment within the step is drawn as well, but its effect depends on
 * the machine.
 *
 *     npm run endings -- --seconds 600 --seed 7 [--kind train]
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseFragment } from '../../src/watch/messages.js';
import { SMALL, workFolder } from '../cli/run.js';
import { FakePage } from '../watch/helpers.js';
import { checkEnding, type Disk, describe, diskOf } from './endings-checks.js';
import { adminLinkOf, Lantrain, lossesOf, startCoordinator, startWorker } from './processes.js';
import { type Draw, drawnOptions, eventsOf, runByCommandLine, type SeededOptions, seededRounds } from './seeded.js';

const KINDS = ['train', 'coordinator'] as const;
type Kind = (typeof KINDS)[number];

export interface EndingsOptions extends SeededOptions {
  /** Both kinds in turn if absent. */
  readonly kind?: Kind;
  /** Processes that are ended before the undisturbed one. */
  readonly legs?: number;
}

/** The last thing that happens to a process. */
const ENDINGS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'twice', 'thrice', 'SIGKILL', 'early', 'Stop', 'Pause, Stop'] as const;
/** Events that may happen to it before. */
const EVENTS = ['SIGUSR1', 'SIGUSR2', 'unread', 'Save', 'Pause, Save, Resume', 'kill', 'leave', 'all gone'] as const;
type What = (typeof ENDINGS)[number] | (typeof EVENTS)[number];
const OF_PAGE: ReadonlySet<What> = new Set(['Stop', 'Pause, Stop', 'Save', 'Pause, Save, Resume']);
const OF_WORKERS: ReadonlySet<What> = new Set(['kill', 'leave', 'all gone']);

const STEPS = 14;
const LEGS = 5;
/** Milliseconds that a worker sleeps after each micro-batch, so that an ending can hit it during a step. */
const DRAG = ['--drag', '40'];
/** Limit of every wait. */
const STUCK_MS = 180_000;
const LOOK_MS = 20;

/** Throws, with the seed in the message, if an ending or the final run is wrong. */
export function endings({ kind, legs = LEGS, ...options }: EndingsOptions): Promise<void> {
  return seededRounds('endings', options, (round, draw, say) =>
    new EndingsRound(kind ?? KINDS[round % KINDS.length], legs, draw, say).run(),
  );
}

const pause = (ms: number) => new Promise<void>((go) => setTimeout(go, ms));

class EndingsRound {
  readonly #folder = workFolder();
  readonly #run = join(this.#folder.path, 'run');
  readonly #workers = new Set<Lantrain>();
  readonly #all = new Set<Lantrain>();
  readonly #watched: boolean;
  readonly #most: number;
  #started = 0;
  #url = '';
  /** The process of the run. */
  #process: Lantrain | undefined;
  /** The last step before the reader of its output went away. */
  #unreadSince: number | undefined;
  #idle = false;

  constructor(
    readonly kind: Kind,
    readonly legs: number,
    readonly draw: Draw,
    readonly say: (line: string) => void,
  ) {
    this.#watched = kind === 'coordinator' || draw.chance(0.5);
    this.#most = 1 + draw.below(3);
  }

  async run(): Promise<void> {
    const options = [
      ...SMALL,
      ...['--batch', this.kind === 'train' ? '64' : '6', '--micro-batch', '1', '--steps', String(STEPS)],
      ...['--sample-tokens', '4', '--sample-every', '5', ...drawnOptions(this.draw)],
    ];
    const every = ['--checkpoint-every', this.draw.pick('0', '2', '1s')];
    this.say(`${this.kind}: ${[...options.slice(SMALL.length), ...every].join(' ')}`);
    try {
      const alone = this.#launch(new Lantrain(['train', ...options, '--out', 'alone'], this.#folder.path));
      if ((await this.#end(alone)) !== 0) throw new Error(`the undisturbed run failed: ${alone.text}`);
      const first = [...options, ...every, '--out', 'run'];
      for (let leg = 0; leg < this.legs && !(await this.#leg(first)); leg++);
      if (!this.#isDone) await this.#last(first);
      this.#compare();
    } catch (error) {
      const { message } = error as Error;
      throw new Error(`${message}\nwhat it said:\n${this.#process?.text.slice(-3000)}`, { cause: error });
    } finally {
      for (const one of this.#all) one.signal('SIGKILL');
      await Promise.all([...this.#all].map((one) => one.ended));
      this.#folder.remove();
    }
  }

  /** Runs one process from its start to a drawn ending. Returns whether the run is done. */
  async #leg(first: readonly string[]): Promise<boolean> {
    const before = this.#disk();
    await this.#start(first);
    const ending = this.#drawn(ENDINGS);
    if (ending !== 'early') {
      await this.#printed(/^run {6}/m);
      for (let events = this.draw.below(3); events > 0; events--) {
        await this.#stepsLater(1 + this.draw.below(2));
        await this.#happens(this.#drawn(EVENTS));
      }
      await this.#stepsLater(this.draw.below(3));
    } else await pause(this.draw.below(2500));
    await pause(this.draw.below(400));
    const running = this.#process?.running;
    const asked = await this.#happens(ending);
    const code = await this.#end(this.#process as Lantrain);
    const after = this.#disk();
    this.say(`${running ? '' : 'over before: '}ended with ${code}; ${describe(after)}`);
    this.#check(ending, code, before, after);
    if (asked !== undefined) this.#holds(asked, ending);
    return this.#isDone;
  }

  /** Runs the last, undisturbed process. */
  async #last(first: readonly string[]): Promise<void> {
    await this.#start(first);
    if (this.#workers.size === 0) this.#startWorker();
    const code = await this.#end(this.#process as Lantrain);
    if (code !== 0) throw new Error(`the last part ended with ${code}`);
    this.#check('SIGINT', code, undefined, this.#disk());
  }

  async #start(first: readonly string[]): Promise<void> {
    const begun = existsSync(join(this.#run, 'config.json'));
    const args = begun ? ['--resume', 'run'] : first;
    this.#unreadSince = undefined;
    this.#idle = false;
    this.say(begun ? '--resume' : 'a new run');
    if (this.kind === 'train') {
      const watch = this.#watched ? ['--watch', '127.0.0.1:0'] : [];
      this.#process = this.#launch(new Lantrain(['train', ...args, ...watch, '--json'], this.#folder.path));
      await this.#printed(/^model /m);
      return;
    }
    const { coordinator, url } = await startCoordinator(args, this.#folder.path);
    this.#process = this.#launch(coordinator);
    if (url !== this.#url && begun && this.#url !== '') throw new Error('the join URL has changed');
    this.#url = url;
    for (let wanted = 1 + this.draw.below(this.#most); this.#workers.size < wanted; ) this.#startWorker();
  }

  #startWorker(): void {
    if (this.kind === 'train') return;
    const worker = this.#launch(startWorker(this.#url, `w${++this.#started}`, this.#folder.path, ...DRAG));
    this.#workers.add(worker);
    void worker.ended.then(() => this.#workers.delete(worker));
  }

  #launch(process: Lantrain): Lantrain {
    this.#all.add(process);
    void process.ended.then(() => this.#all.delete(process));
    return process;
  }

  #drawn<T extends What>(all: readonly T[]): T {
    const able = all.filter((what) => {
      if (OF_PAGE.has(what) && !this.#watched) return false;
      return !OF_WORKERS.has(what) || this.kind === 'coordinator';
    });
    return this.draw.pick(...able);
  }

  /** Makes `what` happen. Returns the step whose checkpoint was promised, if any. */
  async #happens(what: What): Promise<number | undefined> {
    const process = this.#process as Lantrain;
    const step = this.#disk().step;
    this.say(`${what}, in step ${step + 1}${this.#idle ? ' (nobody computes)' : ''}`);
    switch (what) {
      case 'SIGUSR1':
      case 'SIGUSR2':
        process.signal(what);
        await this.#saved(step);
        return undefined;
      case 'unread':
        if (!process.running) return undefined;
        this.#unreadSince ??= step;
        process.stopReading();
        return undefined;
      case 'Save':
        if (await this.#page('checkpoint')) await this.#saved(step);
        return undefined;
      case 'Pause, Save, Resume':
        if (!(await this.#page('pause'))) return undefined;
        await pause(this.draw.below(1000));
        if (await this.#page('checkpoint')) await this.#saved(step);
        await this.#page('resume');
        return undefined;
      case 'Pause, Stop':
        if (await this.#page('pause')) await pause(this.draw.below(1500));
        await this.#page('stop');
        return step;
      case 'Stop':
        await this.#page('stop');
        return step;
      case 'kill':
      case 'leave': {
        const [worker] = this.#workers;
        worker?.signal(what === 'kill' ? 'SIGKILL' : 'SIGINT');
        await worker?.ended;
        if (this.draw.chance(0.7)) this.#startWorker();
        this.#idle = this.#workers.size === 0;
        return undefined;
      }
      case 'all gone':
        for (const worker of this.#workers) worker.signal(this.draw.pick('SIGKILL', 'SIGINT'));
        await Promise.all([...this.#workers].map((worker) => worker.ended));
        this.#idle = true;
        return undefined;
      case 'early':
        process.signal(this.draw.pick('SIGINT', 'SIGTERM', 'SIGHUP'));
        return undefined;
      case 'twice':
      case 'thrice':
        for (let i = what === 'twice' ? 2 : 3; i > 0; i--) {
          process.signal('SIGINT');
          await pause(20 + this.draw.below(400));
        }
        return undefined;
      default:
        process.signal(what);
        return what === 'SIGKILL' ? undefined : step;
    }
  }

  /** Waits for `count` steps, unless nothing is computed. */
  async #stepsLater(steps: number): Promise<void> {
    const target = this.#disk().step + steps;
    await this.#until(`step ${target}`, () => this.#idle || !this.#process?.running || this.#disk().step >= target);
  }

  /** Waits for a checkpoint of `step` or later, or the end of the process. */
  async #saved(step: number): Promise<void> {
    await this.#until(`a checkpoint of step ${step}`, () => !this.#process?.running || this.#holdsAt(step));
  }

  #holdsAt(step: number): boolean {
    return (this.#disk().newest ?? -1) >= step;
  }

  #holds(step: number, what: What): void {
    if (!this.#holdsAt(step)) throw new Error(`${what}: step ${step} is lost`);
  }

  /** Sends a request by the page; returns false if the process has ended. */
  async #page(action: 'pause' | 'resume' | 'checkpoint' | 'stop'): Promise<boolean> {
    if (!this.#process?.running) return false;
    if (!/^admin /m.test(this.#process.text)) throw new Error('it printed no page');
    const { protocol, port, hash } = new URL(await adminLinkOf(this.#process, this.#folder.path));
    try {
      const page = await FakePage.enter(Number(port), parseFragment(hash), protocol === 'https:');
      page.ws.on('error', () => {});
      page.send({ type: 'control', action });
      const { text } = await page.next('answer');
      this.say(`the page is told: ${text}`);
      page.ws.close();
      return true;
    } catch (error) {
      await pause(500);
      if (this.#process.running && !this.#isDone) throw error;
      return false;
    }
  }

  async #printed(pattern: RegExp): Promise<void> {
    await this.#until(String(pattern), () => !this.#process?.running || pattern.test(this.#process.text));
  }

  async #end(process: Lantrain): Promise<number | null> {
    await this.#until('the end', () => !process.running);
    return process.ended;
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    const began = performance.now();
    while (!holds()) {
      if (performance.now() - began > STUCK_MS) throw new Error(`${what} does not come`);
      await pause(LOOK_MS);
    }
  }

  #disk(): Disk {
    return diskOf(this.#run);
  }

  get #isDone(): boolean {
    return this.#disk().isDone;
  }

  #check(ending: What, code: number | null, before: Disk | undefined, after: Disk): void {
    const { text } = this.#process as Lantrain;
    checkEnding({
      code,
      text,
      unreadSince: this.#unreadSince,
      wasKilled: ending === 'SIGKILL',
      mayLose: ending === 'thrice',
      before,
      after,
    });
  }

  #compare(): void {
    const [alone, run] = ['alone', 'run'].map((name) => eventsOf(join(this.#folder.path, name)));
    const digest = (events: typeof run) => events.find(({ event }) => event === 'done')?.digest;
    if (digest(run) !== digest(alone) || digest(run) === undefined)
      throw new Error(`digest ${digest(run)} instead of ${digest(alone)}`);
    const [wanted, got] = [alone, run].map((events) => JSON.stringify(lossesOf(events)));
    if (got !== wanted) throw new Error(`the metrics are ${got} instead of ${wanted}`);
    this.say(`digest ${String(digest(run)).slice(0, 16)} and the metrics are those of the undisturbed run`);
  }
}

runByCommandLine(import.meta.url, { kind: '' }, async (options, { kind }) => {
  const one = KINDS.find((name) => name === kind);
  if (kind !== '' && one === undefined) throw new Error(`--kind is one of ${KINDS.join(', ')}`);
  await endings({ ...options, kind: one });
});
