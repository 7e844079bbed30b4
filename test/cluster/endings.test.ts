import { expect, it } from 'vitest';
import { endings } from './endings.js';

/** Seeds whose one round has many ways to end. */
const SEEDS = { train: 7, coordinator: 7 } as const;

it.each(['train', 'coordinator'] as const)(
  'however a %s is ended, no more than the step in hand is lost',
  async (kind) => {
    const lines: string[] = [];
    // The log is the seed's; without a failure nobody needs it.
    const options = { seed: SEEDS[kind], seconds: 0, legs: 3, kind, log: (line: string) => void lines.push(line) };
    await endings(options).catch((error) => {
      throw new Error(`${error.message}\n${lines.join('\n')}`, { cause: error });
    });
    expect(lines.filter((line) => / ended with (130|null);/.test(line)).length).toBeGreaterThan(1);
    expect(lines.at(-1)).toContain('are those of the undisturbed run');
  },
);
