import { describe, expect, test } from 'vitest';
import { OWNER } from '../../cluster/round/round.js';
import { sampled } from '../thorough.js';
import { HONEST, type Scenario, Simulation, type WorkerTraits } from './simulator.js';

/** Cost in virtual time of members that stall, refuse or die: eight micro-batches a step, sixty steps. */
const worker: WorkerTraits = { ...HONEST, bitClass: 'a', microBatchMs: 30, latencyMs: 5 };
const STEPS = 60;
const SEEDS = sampled([1, 2, 3, 4], 4);

function scenario(seed: number, changes: Partial<Scenario>): Scenario {
  return {
    seed,
    steps: STEPS,
    microBatches: 8,
    parameterBuckets: 3,
    clips: false,
    evaluationMicroBatches: 0,
    workers: [worker],
    minWorkers: 1,
    audit: 0,
    ownerMs: undefined,
    checkpointEvery: 1000,
    faultsUntilMs: 1e9,
    killEveryMs: 0,
    pauseEveryMs: 0,
    breakEveryMs: 0,
    coordinatorKillEveryMs: 0,
    ...changes,
  };
}

interface Means {
  readonly stepMs: number;
  readonly notes: (note: string) => number;
  readonly assigned: (worker: number) => number;
}

function run(changes: Partial<Scenario>): Means {
  let totalMs = 0;
  const notes = new Map<string, number>();
  const assigned = new Map<number, number>();
  for (const seed of SEEDS) {
    const simulation = new Simulation(scenario(seed, changes));
    const outcome = simulation.run();
    expect(outcome.stopped).toBeUndefined();
    expect(outcome.digest).toBe(outcome.expected);
    totalMs += outcome.virtualMs;
    for (const [note, count] of outcome.notes) notes.set(note, (notes.get(note) ?? 0) + count / SEEDS.length);
    for (const [id, count] of simulation.owner.assigned)
      assigned.set(id, (assigned.get(id) ?? 0) + count / SEEDS.length);
  }
  return {
    stepMs: totalMs / SEEDS.length / STEPS,
    notes: (note) => notes.get(note) ?? 0,
    assigned: (id) => assigned.get(id) ?? 0,
  };
}

const alone = run({}).stepMs;
const two = run({ workers: [worker, worker] }).stepMs;

describe('an honest cluster', () => {
  test('an honest cluster is dealt nothing twice, and nobody waits', () => {
    const { notes, assigned } = run({ workers: [worker, worker, worker] });
    for (const note of ['late', 'fence', 'unfence', 'awaited', 'refuted']) expect(notes(note), note).toBe(0);
    // One proof each, and then one assignment a step.
    for (const id of [1, 2, 3]) expect(assigned(id)).toBeLessThan(STEPS + 3);
  });

  test.each([2, 3, 5, 10, 20])('an honest cluster of which one is %d times slower finds shares that fit', (times) => {
    const slow = { ...worker, microBatchMs: times * worker.microBatchMs };
    const { stepMs, assigned } = run({ workers: [worker, slow] });
    expect(stepMs).toBeLessThan(1.2 * alone);
    // It gets work as long as a step has time for one of its micro-batches.
    if (times <= 5) expect(assigned(1) + assigned(2)).toBeGreaterThan(1.8 * STEPS);
    const many = run({ workers: [worker, slow], microBatches: 64 });
    expect(many.stepMs).toBeLessThan(64 * worker.microBatchMs * 1.1);
    expect(many.assigned(1) + many.assigned(2)).toBeGreaterThan(1.9 * STEPS);
  });

  test('an honest cluster that hiccups goes on with all its workers', () => {
    const simulation = new Simulation(scenario(5, { steps: 200, workers: [worker, worker], pauseEveryMs: 8000 }));
    // Each pause is shorter than a second.
    for (const one of simulation.workers) {
      const pause = one.pause.bind(one);
      one.pause = (ms) => pause(ms % 1000);
    }
    const outcome = simulation.run();
    expect(outcome.virtualMs / 200).toBeLessThan(1.3 * two);
    for (const id of [1, 2]) expect(simulation.owner.assigned.get(id)).toBeGreaterThan(150);
  });

  test('a cluster of one address, whose connections break all the time, is no slower for that', () => {
    const workers = [worker, worker, worker];
    const apart = run({ workers, breakEveryMs: 2000 });
    const together = run({ workers, breakEveryMs: 2000, persons: ['a school', 'a school', 'a school'] });
    expect(together.stepMs).toBeLessThan(1.5 * apart.stepMs);
  });
});

describe('a member that stalls', () => {
  const ways = (['idles', 'begins', 'part', 'hands-back'] as const).flatMap((stalls) =>
    [false, true].flatMap((returns) => [0, 1, 3, 6].map((stallsAfter) => ({ stalls, returns, stallsAfter }))),
  );

  test.each(ways)('a member that stalls costs less than half of the speed: %o', (way) => {
    const staller = { ...worker, ...way };
    expect(run({ workers: [worker, staller] }).stepMs).toBeLessThan(1.6 * alone);
    expect(run({ workers: [worker, worker, staller] }).stepMs).toBeLessThan(1.6 * two);
  });

  test('a member that stalls costs no more with ten connections of one address than with one', () => {
    const staller: WorkerTraits = { ...worker, stalls: 'idles', returns: true };
    const persons = ['honest', ...Array.from({ length: 10 }, () => 'a staller')];
    const { stepMs } = run({ workers: [worker, ...persons.slice(1).map(() => staller)], persons });
    expect(stepMs).toBeLessThan(1.6 * alone);
  });

  test.each([0.5, 1])('a member that stalls holds nothing up with audits of %d', (audit) => {
    for (const stalls of ['idles', 'part', 'hands-back'] as const) {
      const staller: WorkerTraits = { ...worker, stalls, returns: true };
      const { stepMs } = run({ workers: [worker, staller], audit });
      expect(stepMs, stalls).toBeLessThan(2 * alone);
    }
  });

  test('a member that stalls and is alone is dealt something once a second at most, until somebody else comes', () => {
    for (const stalls of ['hands-back', 'idles'] as const) {
      let dealt = 0;
      const simulation = new Simulation(
        scenario(6, {
          steps: 3,
          workers: [{ ...worker, stalls, returns: true }],
          audit: 0.5,
          onAction: (action, { world }) => {
            if (action.type === 'assign' && world.now < 100_000) dealt++;
          },
        }),
      );
      simulation.world.after(100_000, () => simulation.spawn(worker));
      const outcome = simulation.run();
      expect(dealt).toBeGreaterThan(0);
      expect(dealt).toBeLessThan(120);
      expect(outcome.virtualMs).toBeLessThan(105_000);
    }
  });
});

describe('a member that refuses everything', () => {
  test("a member that refuses everything is refuted by the owner's adapter and sent away, and costs little", () => {
    const { stepMs, notes, assigned } = run({ workers: [worker, { ...worker, refuses: 1 }], ownerMs: 30 });
    expect(notes('refuted')).toBeGreaterThanOrEqual(2);
    expect(assigned(OWNER)).toBeLessThan(20);
    expect(stepMs).toBeLessThan(1.3 * alone);
  });

  test('a member that refuses everything is refuted by another person where the owner cannot compute', () => {
    const { stepMs, notes } = run({ workers: [worker, worker, { ...worker, refuses: 1 }] });
    expect(notes('refuted')).toBeGreaterThanOrEqual(2);
    expect(stepMs).toBeLessThan(1.3 * two);
  });

  test("refusers of two addresses end nothing where the owner's adapter computes", () => {
    const refuser = { ...worker, refuses: 1 };
    const { stepMs } = run({ workers: [worker, refuser, refuser, refuser], ownerMs: 30, audit: 0.2 });
    expect(stepMs).toBeLessThan(2 * alone);
  });
});
