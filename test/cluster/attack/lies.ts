/** Members that send wrong gradients, in runs of their own that end by themselves. */
import { AttackedCluster, type Ending } from './attacked-cluster.js';
import { Attacker } from './attacker.js';
import { lastWords } from './attacks.js';

export interface LiePlan {
  readonly name: string;
  /** The fraction of assignments that are audited. */
  readonly audit: number;
  readonly honest: number;
  /** The address of each liar; all liars send the same wrong values. */
  readonly liars: readonly string[];
  readonly steps: number;
}

export interface LieOutcome extends Ending {
  readonly plan: LiePlan;
  /** Number of assignments that each liar lied in before it was found, or in total. */
  readonly lies: readonly number[];
  readonly found: number;
  /** Honest workers that were treated as liars. */
  readonly wronged: number;
  readonly faults: readonly string[];
}

/** Chance that a liar is not found within `mostLies`, so small that no seed should hit it. */
const UNLIKELY = 1e-6;

/** The largest number of lies that can pass, except with the chance `UNLIKELY`, if each is found with this chance. */
export function mostLies(chance: number): number {
  if (chance <= 0) return Number.POSITIVE_INFINITY;
  return chance >= 1 ? 1 : Math.ceil(Math.log(UNLIKELY) / Math.log(1 - chance));
}

/**
 * The chance that a lie is found: it is audited, and confirmed by the owner or an honest worker, not by another liar.
 */
export function chanceOf({ audit, honest, liars }: LiePlan): number {
  const accomplices = liars.filter((address) => address !== liars[0]).length;
  return (audit * (honest + 1)) / (honest + 1 + accomplices);
}

const AUDIT = 'LT_CLUSTER_AUDIT';
const MOST_MS = 240_000;

export async function lieRun(program: string, plan: LiePlan, seed: number): Promise<LieOutcome> {
  const { audit, honest, steps, liars } = plan;
  const attackers = liars.map(() => new Attacker(program));
  let cluster: AttackedCluster | undefined;
  try {
    const least = ['--min-workers', `${honest + liars.length}`];
    const begins: Promise<void>[] = [];
    const onListening = ({ target }: AttackedCluster) => {
      for (const [i, from] of liars.entries())
        begins.push(attackers[i].begin({ attack: 'lie', target, from, name: `liar${i + 1}`, seed, once: true }));
      // A failure is reported below, unless the run does not begin.
      for (const begin of begins) begin.catch(() => {});
    };
    cluster = await AttackedCluster.open({ audit, honest, steps, seed, more: least, onListening });
    await Promise.all(begins);
    const ending = await cluster.end(MOST_MS);
    const lies = attackers.map((attacker) => attacker.lies.length);
    const found = attackers.filter((attacker) => attacker.closed.has(AUDIT)).length;
    const wronged = [...cluster.events].filter(
      ({ event, worker, reason }) =>
        event === 'leave' && /^good/.test(String(worker)) && /AUDIT|wrong|agree/.test(String(reason)),
    ).length;
    const unseen = lies.filter(
      (count, i) => !attackers[i].closed.has(AUDIT) && count > mostLies(chanceOf(plan)),
    ).length;
    const faults = [
      ...(ending.step < steps ? [`the run ended after ${ending.step} steps: ${lastWords(cluster)}`] : []),
      ...(ending.isExact || ending.isMarked ? [] : [`a wrong result that is not marked (${ending.why})`]),
      ...(lies.some((count) => count > 0) ? [] : ['nobody lied']),
      ...(wronged > 0 ? ['an honest worker was sent away'] : []),
      ...(unseen > 0 ? [`${unseen} not found after ${lies.join(' and ')} lies`] : []),
      ...(ending.code === null ? ['it did not end in time'] : []),
    ];
    return { ...ending, plan, lies, found, wronged, faults };
  } finally {
    await cluster?.remove();
    await Promise.all(attackers.map((attacker) => attacker.kill()));
  }
}

const [A, B] = ['127.0.3.1', '127.0.3.2'];

/** One liar with one and two honest workers, at each audit fraction; then liars that agree. */
export function liePlans(steps: number): LiePlan[] {
  const alone = [0.1, 0.2, 0.5].flatMap((audit) =>
    [1, 2].map((honest) => ({ name: `lie ${audit}, ${honest} honest`, audit, honest, liars: [A], steps })),
  );
  return [
    ...alone,
    ...[0.1, 0.2, 0.5].map((audit) => ({ name: `lie-two ${audit}`, audit, honest: 1, liars: [A, B], steps })),
    { name: 'two-of-one 0.5', audit: 0.5, honest: 1, liars: [A, A], steps },
  ];
}
