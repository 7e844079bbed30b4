/** The attacks by name, and what an honest cluster loses by each. */

import { pause } from './attack-context.js';
import { AttackedCluster, type AttackedClusterOptions } from './attacked-cluster.js';
import type { Attacker } from './attacker.js';
import type { AttackName } from './process.js';

/** Which coordinator it needs. */
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
  /** For the script only: what it shows beyond the others takes longer than a test should. */
  readonly isLong?: boolean;
  /** From the honest worker's own address, as behind a router that translates addresses. */
  readonly beside?: boolean;
  /** A second coordinator is there, from which it can learn. */
  readonly learns?: boolean;
  /** What is wrong besides what is measured of every attack. */
  readonly check?: (
    cluster: AttackedCluster,
    attacker: Attacker,
    name: string,
  ) => Promise<string | undefined> | string | undefined;
}

const joinReason = (cluster: AttackedCluster, worker: RegExp) =>
  cluster.events.findLast(({ event, worker: who }) => event === 'join' && worker.test(String(who)))?.reason;

/** What moves a cursor, colours or clears; a line's end is the terminal's own. */
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
      // It works as much as the honest one, at most.
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
  /** Steps a second. */
  readonly before: number;
  readonly during: number;
  /** Resident memory of the coordinator, at most, beyond what it was before. */
  readonly memoryMiB: number;
  /** The slowest honest join. */
  readonly joinMs: number;
  /** How the attacker's connections ended. */
  readonly ends: string;
  readonly faults: readonly string[];
}

export interface Times {
  readonly beforeMs: number;
  readonly duringMs: number;
  /** Until the run goes on after the attack. */
  readonly afterMs: number;
}

export const QUICK: Times = { beforeMs: 1_200, duringMs: 3_000, afterMs: 20_000 };
/** For a second try: the first one may have met a busy machine, or the owner's adapter compiling what it needs once. */
export const PATIENT: Times = { beforeMs: 3_000, duringMs: 9_000, afterMs: 40_000 };
export const LONG: Times = { beforeMs: 5_000, duringMs: 20_000, afterMs: 30_000 };

/** The bounds that an attack must stay within. */
const LEAST_PART = 0.5;
const MOST_MIB = 64;
const MOST_JOIN_MS = 2_000;
const LOOK_MS = 100;
/** From one honest join to the next. */
const JOIN_EVERY_MS = 1_200;

/** Where the honest worker is. */
const HONEST = '127.0.0.1';

let addresses = 0;

/** Steps a second, and the most resident memory, over so many milliseconds or until the coordinator has ended. */
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

/** Honest workers come one after the other while `going`. Returns how long the slowest took, in milliseconds. */
async function slowestJoin(cluster: AttackedCluster, going: () => boolean): Promise<number> {
  let slowest = 0;
  while (going() && cluster.coordinator.running) {
    slowest = Math.max(slowest, await cluster.joinMs());
    await pause(JOIN_EVERY_MS);
  }
  return slowest;
}

/** One attack on a cluster that trains, from an address that nobody has used. */
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

/** A second attack, with more time, decides where the first one was beyond a bound. */
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

/** What the coordinator said last that may be why it ended. */
export function lastWords({ coordinator }: AttackedCluster): string {
  const line = coordinator.text.split('\n').findLast((one) => /LT_|rror|not exact/.test(one));
  return (line ?? 'without a word').slice(0, 120);
}
