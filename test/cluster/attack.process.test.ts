/** Who means harm gets nowhere: a coordinator is attacked while an honest worker computes beside it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { IS_THOROUGH, sampled } from '../thorough.js';
import { Arena } from './attack/arena.js';
import { Attacker, buildAttacker } from './attack/attacker.js';
import { attackTwice, GROUNDS, type Ground, PLANS, QUICK } from './attack/attacks.js';

const SEED = 17;
/** The attacks that every run has: of a member, and of a stranger. */
const ALWAYS = ['ping-flood', 'silent-sockets'];
let program: Awaited<ReturnType<typeof buildAttacker>>;
beforeAll(async () => {
  program = await buildAttacker();
});
afterAll(() => program.remove());

// Loopback addresses other than 127.0.0.1, and the memory of another process, are Linux's.
describe.skipIf(process.platform !== 'linux').each(sampled(Object.keys(GROUNDS) as Ground[], 3))(
  'a coordinator (%s)',
  (ground) => {
    let arena: Arena | undefined;
    let attacker: Attacker | undefined;

    afterAll(async () => {
      await arena?.remove();
      await attacker?.kill();
    });

    test.each(
      PLANS.filter(
        ({ ground: where, isLong, name }) => where === ground && !isLong && (IS_THOROUGH || ALWAYS.includes(name)),
      ),
    )('a coordinator goes on training under $name', async (plan) => {
      attacker ??= new Attacker(program.path);
      // One that an attack has ended is that attack's failure, not the next one's.
      if (arena?.coordinator.running === false) {
        await arena.remove();
        arena = undefined;
      }
      arena ??= await Arena.open(GROUNDS[ground]);
      const { faults } = await attackTwice(arena, attacker, plan, SEED, QUICK);
      expect(faults).toEqual([]);
    });

    test('a coordinator has the digest and the losses of train after all attacks', async () => {
      expect(arena?.coordinator.running).toBe(true);
      const { isExact, why } = await (arena as Arena).end();
      expect(isExact, why).toBe(true);
    });
  },
);
