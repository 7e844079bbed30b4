/** Attacks do not succeed: a coordinator is attacked while an honest worker computes for it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { IS_THOROUGH, sampled } from '../thorough.js';
import { AttackedCluster } from './attack/attacked-cluster.js';
import { Attacker, buildAttacker } from './attack/attacker.js';
import { attackTwice, COORDINATORS, type CoordinatorKind, PLANS, QUICK } from './attack/attacks.js';

const SEED = 17;
/** Attacks that every run makes: by a member, and by a stranger. */
const ALWAYS = ['ping-flood', 'silent-sockets'];
let program: Awaited<ReturnType<typeof buildAttacker>>;
beforeAll(async () => {
  program = await buildAttacker();
});
afterAll(() => program.remove());

// Only Linux has loopback addresses other than 127.0.0.1, and shows the memory of another process.
describe.skipIf(process.platform !== 'linux').each(sampled(Object.keys(COORDINATORS) as CoordinatorKind[], 3))(
  'a coordinator (%s)',
  (coordinatorKind) => {
    let cluster: AttackedCluster | undefined;
    let attacker: Attacker | undefined;

    afterAll(async () => {
      await cluster?.remove();
      await attacker?.kill();
    });

    test.each(
      PLANS.filter(
        ({ coordinatorKind: where, isLong, name }) =>
          where === coordinatorKind && !isLong && (IS_THOROUGH || ALWAYS.includes(name)),
      ),
    )('a coordinator goes on training under $name', async (plan) => {
      attacker ??= new Attacker(program.path);
      // A coordinator that an attack has ended is replaced: that failure is not the next attack's.
      if (cluster?.coordinator.running === false) {
        await cluster.remove();
        cluster = undefined;
      }
      cluster ??= await AttackedCluster.open(COORDINATORS[coordinatorKind]);
      const { faults } = await attackTwice(cluster, attacker, plan, SEED, QUICK);
      expect(faults).toEqual([]);
    });

    test('a coordinator has the digest and the losses of train after all attacks', async () => {
      expect(cluster?.coordinator.running).toBe(true);
      const { isExact, why } = await (cluster as AttackedCluster).end();
      expect(isExact, why).toBe(true);
    });
  },
);
