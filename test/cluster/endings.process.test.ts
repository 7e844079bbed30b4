import { expect } from 'vitest';
import { slowTest } from '../slow.js';
import { endings } from './endings.js';

const FIRST_SEED = 7;
/** A fast machine may finish a round before it is ended; then another one is drawn. */
const MOST_ROUNDS = 12;

slowTest.each(['coordinator', 'train'] as const)(
  'however a %s is ended, no more than the step in hand is lost',
  async (kind) => {
    let ended = 0;
    for (let seed = FIRST_SEED; ended < 2 && seed < FIRST_SEED + MOST_ROUNDS; seed++) {
      const lines: string[] = [];
      // The seed reproduces the log, so it is shown only after a failure.
      const options = {
        seed,
        seconds: 0,
        legs: 3,
        kind,
        log: (line: string) => void lines.push(line),
      };
      await endings(options).catch((error) => {
        throw new Error(`${error.message}\n${lines.join('\n')}`, { cause: error });
      });
      ended += lines.filter((line) => / ended with (130|null);/.test(line)).length;
      expect(lines.at(-1)).toContain('are those of the undisturbed run');
    }
    expect(ended).toBeGreaterThan(1);
  },
);
