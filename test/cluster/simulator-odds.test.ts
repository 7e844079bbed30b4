import { describe, expect, test } from 'vitest';
import { IS_THOROUGH } from '../thorough.js';
import { HONEST, type Scenario, simulate, type WorkerTraits } from './simulator.js';

/**
 * What audits find. An assignment with a lie is audited with the chance P, and the confirmer is drawn among the other
 * persons and the owner's adapter. So a lie is found with the chance P * q, where q is the chance that the confirmer is
 * honest: 1 for a single liar; 2/3 for two liars that agree, with one honest worker and the owner's adapter. After n
 * lies the chance of not being found is at most (1 - P * q) ** n: a liar that also lies when it confirms others is
 * found at once.
 */
const worker: WorkerTraits = { ...HONEST, bitClass: 'a', microBatchMs: 20, latencyMs: 2 };
const liar: WorkerTraits = { ...worker, lies: 1 };

interface Cast {
  readonly workers: readonly WorkerTraits[];
  readonly ownerMs: number | undefined;
  readonly q: number;
  /** The liar is never asked to confirm anything. */
  readonly exact?: boolean;
}

/** Thrown to end a simulation. */
class Found extends Error {}

const CASTS: Record<string, Cast> = {
  'nobody but the owner': { workers: [liar], ownerMs: 20, q: 1, exact: true },
  'one honest worker beside it': { workers: [liar, worker], ownerMs: undefined, q: 1 },
  'one honest worker, and the owner': { workers: [liar, worker], ownerMs: 20, q: 1 },
  'two honest workers': { workers: [liar, worker, worker], ownerMs: undefined, q: 1 },
  'two liars that agree, one honest worker, and the owner': { workers: [liar, liar, worker], ownerMs: 20, q: 2 / 3 },
};

function scenario(cast: Cast, seed: number, audit: number): Scenario {
  return {
    seed,
    steps: 200,
    microBatches: 4,
    parameterBuckets: 1,
    clips: false,
    evaluationMicroBatches: 0,
    workers: cast.workers,
    persons: cast.workers.map((_, i) => `person ${i}`),
    ownerMs: cast.ownerMs,
    minWorkers: cast.workers.length,
    audit,
    checkpointEvery: 1000,
    faultsUntilMs: 1e9,
    killEveryMs: 0,
    pauseEveryMs: 0,
    breakEveryMs: 0,
    coordinatorKillEveryMs: 0,
  };
}

const RUNS = Number(process.env.LANTRAIN_ODDS_RUNS ?? (IS_THOROUGH ? 150 : 30));

describe.each(Object.entries(CASTS))('a worker that always lies: %s', (_, cast) => {
  test.each([0.1, 0.2, 0.5])('a liar is found with the odds that are promised, audits of %d', (audit) => {
    const found = audit * cast.q;
    const lies: number[] = [];
    for (let seed = 0; seed < RUNS; seed++) {
      let told = 0;
      const run = () =>
        simulate({
          ...scenario(cast, 7000 + seed, audit),
          onAction: (action, { ledger }) => {
            told = ledger.lies.size;
            const isFound =
              (action.type === 'close' && action.code === 'LT_CLUSTER_AUDIT') || action.type === 'stopped';
            if (!isFound) return;
            // All its earlier lies are marked by now.
            ledger.check();
            throw new Found();
          },
        });
      expect(run, `seed ${7000 + seed}: 200 steps`).toThrow(Found);
      lies.push(told);
    }
    // Geometric distribution: mean 1 / p, standard deviation sqrt(1 - p) / p. Lies that are on their way when one is
    // found add a few.
    const mean = lies.reduce((a, b) => a + b) / RUNS;
    const deviation = Math.sqrt(1 - found) / found / Math.sqrt(RUNS);
    const onTheirWay = cast.workers.length;
    if (cast.exact) expect(mean).toBeGreaterThan(1 / found - 4 * deviation);
    expect(mean).toBeGreaterThan(1 + (1 / found - 1) / 3);
    expect(mean).toBeLessThan(1 / found + 4 * deviation + onTheirWay);
    // Not found after n lies.
    for (const n of [2, 5, 10]) {
      const expected = (1 - found) ** n;
      const share = lies.filter((count) => count > n + onTheirWay).length / RUNS;
      expect(share).toBeLessThan(expected + 4 * Math.sqrt((expected * (1 - expected)) / RUNS) + 1 / RUNS);
    }
  });
});
