/** Common code of the seeded loops over real processes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Event } from './processes.js';

export interface SeededOptions {
  readonly seed: number;
  /** Rounds begin until this time has passed; there is at least one. */
  readonly seconds: number;
  readonly log: (line: string) => void;
}

/** Random choices from a seed. */
export class Draw {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = mulberry(seed);
  }

  /** 0 to `limit - 1`. */
  below(limit: number): number {
    return Math.floor(this.#random() * Math.max(1, limit));
  }

  pick<T>(...choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  chance(share: number): boolean {
    return this.#random() < share;
  }
}

export type RunRound = (round: number, draw: Draw, say: (line: string) => void) => Promise<void>;

/** Runs rounds, each drawn from the seed and its number. An error's message gets both. */
export async function seededRounds(name: string, { seed, seconds, log }: SeededOptions, run: RunRound): Promise<void> {
  const started = performance.now();
  let round = 0;
  do {
    const say = (line: string) => {
      const at = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
      log(`${at} s  seed ${seed}, round ${round}: ${line}`);
    };
    try {
      await run(round, new Draw(seed * 7919 + round), say);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${name} with --seed ${seed}, round ${round}: ${message}`, { cause: error });
    }
    round++;
  } while (performance.now() - started < 1000 * seconds);
}

/** Options that change how a step is computed. */
export function drawnOptions(draw: Draw): string[] {
  return [
    ...draw.pick(['--tie'], ['--no-tie']),
    ...draw.pick(['--dropout', '0'], ['--dropout', '0.1']),
    ...draw.pick(['--clip', '0'], ['--clip', '0.5']),
    ...draw.pick(['--wire', 'exact'], ['--wire', 'low']),
  ];
}

/** The events of a run's metrics.jsonl, without a line that is still being written. */
export function eventsOf(run: string): Event[] {
  let text: string;
  try {
    text = readFileSync(join(run, 'metrics.jsonl'), 'utf8');
  } catch {
    // A run that has not begun has no metrics.
    return [];
  }
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Event);
}

/** Runs `loop` with the options of the command line, if Node was started with the module at `url`. */
export function runByCommandLine(
  url: string,
  defaults: Readonly<Record<string, string>>,
  loop: (
    options: SeededOptions,
    more: Readonly<Record<string, string | boolean | string[] | boolean[] | undefined>>,
  ) => Promise<void>,
): void {
  if (process.argv[1] !== fileURLToPath(url)) return;
  const all = { seconds: '300', seed: String(Date.now() % 1_000_000), ...defaults };
  const options = Object.fromEntries(
    Object.entries(all).map(([name, value]) => [name, { type: 'string', default: value } as const]),
  );
  const { values } = parseArgs({ options });
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
  if (!(seconds >= 0 && seed >= 0)) throw new Error('--seconds and --seed are numbers');
  loop({ seconds, seed, log: (line) => void process.stdout.write(`${line}\n`) }, values).then(
    () => process.exit(0),
    (error: Error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    },
  );
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
