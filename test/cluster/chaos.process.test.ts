import { expect } from 'vitest';
import { slowTest } from '../slow.js';
import { chaos } from './chaos.js';

/** Tied, with dropout and clipping. */
const SEED = 8;

slowTest('kills, a stopped worker and a coordinator that starts again change no bit of the result', async () => {
  const lines: string[] = [];
  // The log is the seed's; without a failure nobody needs it.
  await chaos({ seed: SEED, seconds: 0, steps: 24, log: (line) => void lines.push(line) }).catch((error) => {
    throw new Error(`${error.message}\n${lines.join('\n')}`, { cause: error });
  });
  const log = lines.join('\n');
  for (const what of ['SIGKILL w', 'SIGSTOP', 'SIGCONT', 'SIGKILL the coordinator', 'the coordinator is back'])
    expect(log).toContain(what);
});
