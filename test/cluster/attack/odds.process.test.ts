import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { slowTest } from '../../slow.js';
import { buildAttacker } from './attacker.js';
import { liePlans, lieRun, mostLies } from './lies.js';

const SEED = 23;
const STEPS = 40;
/** At the largest audit fraction a liar is almost certainly found within this many steps. */
const SHARE = 0.5;

let program: Awaited<ReturnType<typeof buildAttacker>>;
beforeAll(async () => {
  program = await buildAttacker();
});
afterAll(() => program.remove());

test('a liar whose every assignment is audited with the chance P passes n times with the odds (1 - P) ^ n', () => {
  expect([0.1, 0.2, 0.5].map(mostLies)).toEqual([132, 62, 20]);
  for (const share of [0.1, 0.2, 0.5]) {
    expect((1 - share) ** mostLies(share)).toBeLessThanOrEqual(1e-6);
    expect((1 - share) ** (mostLies(share) - 1)).toBeGreaterThan(1e-6);
  }
});

describe.skipIf(process.platform !== 'linux')('members that send wrong gradients', () => {
  const plans = liePlans(STEPS).filter(({ audit }) => audit === SHARE);
  slowTest.each(plans)(
    'members that send wrong gradients are found, and never leave a wrong digest unmarked ($name)',
    async (plan) => {
      const { faults } = await lieRun(program.path, plan, SEED);
      expect(faults).toEqual([]);
    },
  );
});
