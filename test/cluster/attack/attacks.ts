/** The attacks by name, and measurements of what an honest cluster loses by each. */

import { pause } from './attack-context.js';
import { AttackedCluster, type AttackedClusterOptions } from './attacked-cluster.js';
import type { Attacker } from './attacker.js';
import type { AttackName } from './process.js';

/** Kind of the coordinator that an attack needs. */
export type CoordinatorKind = 'plain' | 'tls' | 'audit';

export const COORDINATORS: Readonly<Record<CoordinatorKind, AttackedClusterOptions>> = {
  plain: {},
  tls: { secure: true },
  audit: { audit: 0.5 },
};

export interface Plan {
  readonly name: string;
  readonly attack: AttackName;
  readonly who: 'member' | 'stranger' | 'page';
  readonly coordinatorKind: CoordinatorKind;
  readonly renames?: boolean;
  /** Only for the script: too long for a test. */
  readonly isLong?: boolean;
  /** The attack comes from the honest worker's own address, as behind a NAT router. */
  readonly beside?: boolean;
  /** There is a second coordinator, from which the attacker can learn. */
  readonly learns?: boolean;
  /** Returns a fault besides those measured for every attack. */
  readonly check?: (
    cluster: AttackedCluster,
    attacker: Attacker,
    name: string,
  ) => Promise<string | undefined> | string | undefined;
}

const joinReason = (cluster: AttackedCluster, worker: RegExp) =>
  cluster.events.findLast(({ event, worker: who }) => event === 'join' && worker.test(String(who)))?.reason;

/** Control characters that move a cursor, set colours or clear. Line ends are allowed. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

const member = (name: AttackName, more: Partial<Plan> = {}): Plan => ({
  name,
  attack: name,
  who: 'member',
  coordinatorKind: 'plain',
  ...more,
});
const stranger = (name: AttackName, more: Partial<Plan> = {}): Plan => ({ ...member(name, more), who: 'stranger' });

export const PLANS: readonly Plan[] = [
  member('credit'),
  member('stall'),
  member('stall-begun'),
  member('stall-part', { isLong: true }),
  member('stall-many'),
  member('stall-settled'),
  member('stall-rename', { renames: true }),
  member('deaf', { isLong: true }),
  member('hand-back', { isLong: true }),
  member('hand-back', { name: 'hand-back --audit', coordinatorKind: 'audit' }),
  member('ping-flood'),
  member('protocol-pings'),
  member('rejoin'),
  member('mismatch'),
  member('half-message'),
  member('no-credit'),
  member('refuse'),
  member('refuse-two'),
  member('refuse-evaluation'),
  member('stats', {
    check: async (cluster) => {
      const share = await cluster.shareOf(/^stats-/);
      // It computes at most as much as the honest worker.
      return share > 0.75 ? `it is credited with ${(100 * share).toFixed(0)} % of the tokens` : undefined;
    },
  }),
  member('evaluate-frame'),
  ...(['stall', 'ping-flood', 'credit'] as const).map((attack) =>
    member(attack, { name: `${attack} beside`, beside: true, isLong: true }),
  ),
  member('class', {
    learns: true,
    check: (cluster, _, name) => {
      const [own, copied] = [joinReason(cluster, /^good/), joinReason(cluster, new RegExp(`^${name}-copied`))];
      return copied !== undefined && copied === own ? 'copied hashes pass for the bit class' : undefined;
    },
  }),
  stranger('silent-sockets'),
  stranger('slow-handshake'),
  stranger('tls-flood', { coordinatorKind: 'tls' }),
  stranger('pipeline'),
  stranger('wrong-token'),
  stranger('host', {
    check: (_, { answers }) => {
      const [statuses = 'none'] = answers;
      return /^4\d\d 4\d\d 4\d\d$/.test(statuses) ? undefined : `a foreign Host is answered ${statuses}`;
    },
  }),
  stranger('escapes', {
    check: ({ coordinator }) => {
      const line = coordinator.text.split('\n').find((one) => CONTROL.test(one.replace(/\r$/, '')));
      return line === undefined ? undefined : `it printed ${JSON.stringify(line).slice(0, 60)}`;
    },
  }),
  stranger('upgrade-flood'),
  { ...member('history'), who: 'page' },
];

export interface Outcome {
  readonly plan: Plan;
  /** Steps per second before and during the attack. */
  readonly before: number;
  readonly during: number;
  /** Largest increase of the coordinator's resident memory. */
  readonly memoryMiB: number;
  /** Milliseconds of the slowest honest join. */
  readonly joinMs: number;
  /** How the attacker's connections ended. */
  readonly ends: string;
  readonly faults: readonly string[];
}

export interface Times {
  readonly beforeMs: number;
  readonly duringMs: number;
  /** Time in which the run must go on after the attack. */
  readonly afterMs: number;
}

export const QUICK: Times = { beforeMs: 1_200, duringMs: 3_000, afterMs: 20_000 };
/**
 * For a second try: during the first one the machine may have been busy, or the owner's adapter compiling its kernels.
 */
export const PATIENT: Times = { beforeMs: 3_000, duringMs: 9_000, afterMs: 40_000 };
export const LONG: Times = { beforeMs: 5_000, duringMs: 20_000, afterMs: 30_000 };

/** The bounds of an attack's effects. */
const LEAST_PART = 0.5;
/** Garbage that V8 has not collected yet is in it, up to 75 MiB on busy machines. Attacks that took memory took 128 and more. */
const MOST_MIB = 100;
const MOST_JOIN_MS = 5_000;
const LOOK_MS = 100;
/** Pause between two honest joins. */
const JOIN_EVERY_MS = 1_200;

/** Address of the honest worker. */
const HONEST = '127.0.0.1';

let addresses = 0;

/** Steps per second and the largest resident memory, over `ms` milliseconds or until the coordinator has ended. */
async function measure(
  cluster: AttackedCluster,
  ms: number,
): Promise<{ readonly rate: number; readonly mostMiB: number }> {
  const start = performance.now();
  let mostMiB = 0;
  for (; performance.now() - start < ms && cluster.coordinator.running; await pause(LOOK_MS))
    mostMiB = Math.max(mostMiB, cluster.memoryMiB());
  return { rate: cluster.rate(start, performance.now()), mostMiB };
}

/** Honest workers join one after the other while `going` is true. Returns the milliseconds of the slowest join. */
async function slowestJoin(cluster: AttackedCluster, going: () => boolean): Promise<number> {
  let slowest = 0;
  while (going() && cluster.coordinator.running) {
    slowest = Math.max(slowest, await cluster.joinMs());
    await pause(JOIN_EVERY_MS);
  }
  return slowest;
}

/** One attack on a cluster that trains, from an unused address. */
async function attackOn(
  cluster: AttackedCluster,
  attacker: Attacker,
  plan: Plan,
  seed: number,
  { beforeMs, duringMs, afterMs }: Times,
): Promise<Outcome> {
  const n = ++addresses;
  const name = `${plan.attack}-${n}`;
  const { attack, renames } = plan;
  const teacher = plan.learns ? await AttackedCluster.open({ honest: 0 }) : undefined;
  try {
    const { rate: before, mostMiB } = await measure(cluster, beforeMs);
    const { target } = cluster;
    await attacker.begin({
      attack,
      target,
      teacher: teacher?.target,
      from: plan.beside ? HONEST : `127.0.1.${n & 255}`,
      name,
      seed,
      renames,
    });
    let isOver = false;
    const joins = slowestJoin(cluster, () => !isOver);
    const { rate: during, mostMiB: duringMiB } = await measure(cluster, duringMs);
    const { ends } = attacker;
    isOver = true;
    const joinMs = await joins;
    await attacker.stop();
    const memoryMiB = duringMiB - mostMiB;
    const goesOn = await cluster.stepsLater(3, afterMs);
    const wrong = await plan.check?.(cluster, attacker, name);
    const ended = `the run ended: ${lastWords(cluster)}`;
    const faults = [
      ...(during < LEAST_PART * before ? [`${during.toFixed(2)} steps a second instead of ${before.toFixed(2)}`] : []),
      ...(memoryMiB > MOST_MIB ? [`${memoryMiB.toFixed(0)} MiB more memory`] : []),
      ...(joinMs > MOST_JOIN_MS ? [`a join took ${(joinMs / 1000).toFixed(1)} s`] : []),
      ...(wrong === undefined ? [] : [wrong]),
      ...(cluster.coordinator.running ? [] : [ended]),
      ...(goesOn || !cluster.coordinator.running ? [] : ['no step after the attack']),
    ];
    return { plan, before, during, memoryMiB, joinMs, ends, faults };
  } finally {
    await attacker.stop();
    await teacher?.remove();
  }
}

/** If the first attack is beyond a bound, a second one with more time decides. */
export async function attackTwice(
  cluster: AttackedCluster,
  attacker: Attacker,
  plan: Plan,
  seed: number,
  times: Times,
): Promise<Outcome> {
  const outcome = await attackOn(cluster, attacker, plan, seed, times);
  if (outcome.faults.length === 0 || !cluster.coordinator.running) return outcome;
  return attackOn(cluster, attacker, plan, seed, times.duringMs < PATIENT.duringMs ? PATIENT : times);
}

/** The coordinator's last line that may say why it ended. */
export function lastWords({ coordinator }: AttackedCluster): string {
  const line = coordinator.text.split('\n').findLast((one) => /LT_|rror|not exact/.test(one));
  return (line ?? 'without a word').slice(0, 120);
}
