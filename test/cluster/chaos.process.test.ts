import { expect } from 'vitest';
import { slowTest } from '../slow.js';
import { chaos } from './chaos.js';

/** Tied embeddings, dropout and clipping. */
const SEED = 8;

slowTest('kills, a stopped worker and a coordinator that starts again change no bit of the result', async () => {
  const lines: string[] = [];
  // The seed reproduces the log, so it is shown only after a failure.
  await chaos({ seed: SEED, seconds: 0, steps: 24, log: (line) => void lines.push(line) }).catch((error) => {
    throw new Error(`${error.message}\n${lines.join('\n')}`, { cause: error });
  });
  const log = lines.join('\n');
  for (const what of ['SIGKILL w', 'SIGSTOP', 'SIGCONT', 'SIGKILL the coordinator', 'the coordinator is back'])
    expect(log).toContain(what);
});
