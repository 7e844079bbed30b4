import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type Round, sets } from '../../cluster/round/round.js';
import { HONEST, type Mutation, type Scenario, SimulationFailure, scenarioOf, simulate } from './simulator.js';

const SCHEDULES = Number(process.env.LANTRAIN_SCHEDULES ?? 10_000);

/** Three steps without faults, for a directed schedule to change. */
function quiet(seed: number, changes: Partial<Scenario>): Scenario {
  const worker = { ...HONEST, bitClass: 'a', microBatchMs: 100, latencyMs: 30 };
  return {
    seed,
    steps: 3,
    microBatches: 6,
    parameterBuckets: 4,
    clips: false,
    evaluationMicroBatches: 0,
    workers: [worker, worker],
    minWorkers: 1,
    audit: 0,
    ownerMs: undefined,
    checkpointEvery: 1,
    faultsUntilMs: 60_000,
    killEveryMs: 0,
    pauseEveryMs: 0,
    breakEveryMs: 0,
    coordinatorKillEveryMs: 0,
    ...changes,
  };
}

const slow = { ...HONEST, bitClass: 'a', microBatchMs: 2000, latencyMs: 30 };
const fast = { ...HONEST, bitClass: 'a', microBatchMs: 50, latencyMs: 30 };
const seeds = Array.from({ length: 40 }, (_, i) => i);

describe('one run, one digest, whatever happens', () => {
  const given = process.env.LANTRAIN_SEED;
  test.runIf(given !== undefined)(`seed ${given} again`, () => {
    simulate(scenarioOf(Number(given)));
  });

  test(`${SCHEDULES} schedules of crashes, pauses, restarts, bad frames, liars, refusers and stallers`, () => {
    const notes = new Map<string, number>();
    let incarnations = 0;
    let stopped = 0;
    let wrong = 0;
    for (let seed = 0; seed < SCHEDULES; seed++) {
      // That it may stop, and that it may be wrong, is decided by the simulation: some cannot be prevented.
      const outcome = simulate(scenarioOf(seed));
      if (outcome.stopped !== undefined) stopped++;
      else if (outcome.digest !== outcome.expected) wrong++;
      incarnations += outcome.incarnations;
      for (const [note, count] of outcome.notes) notes.set(note, (notes.get(note) ?? 0) + count);
    }
    // Faults that never happen would prove nothing.
    if (SCHEDULES < 1000) return;
    for (const note of ['fence', 'unfence', 'leave', 'stale', 'refuse', 'mixed', 'waiting', 'unaudited', 'late'])
      expect(notes.get(note) ?? 0, note).toBeGreaterThan(0);
    for (const note of ['audit', 'inexact', 'contributed', 'refuted', 'awaited'])
      expect(notes.get(note) ?? 0, note).toBeGreaterThan(0);
    expect(stopped).toBeGreaterThan(0);
    expect(stopped).toBeLessThan(SCHEDULES / 20);
    expect(wrong).toBeGreaterThan(0);
    expect(incarnations).toBeGreaterThan(SCHEDULES);
  });

  test('a worker is killed between the first stepped and the last complete bucket', () => {
    let between = 0;
    for (const seed of seeds) {
      let killed = false;
      const outcome = simulate(
        quiet(seed, {
          onAction: (action, { owner, workers }) => {
            if (killed || action.type !== 'add' || owner.stepped === 0) return;
            killed = true;
            between++;
            workers[seed % 2].kill(seed % 3 === 0 ? 30_000 : 5);
          },
        }),
      );
      expect(outcome.stopped).toBeUndefined();
    }
    expect(between).toBeGreaterThan(seeds.length / 2);
  });

  test('a paused worker wakes up with stale frames', () => {
    let stale = 0;
    let late = 0;
    for (const seed of seeds) {
      let paused = false;
      const outcome = simulate(
        quiet(seed, {
          steps: 6,
          workers: [{ ...fast, latencyMs: 300, lifeMs: 0 }, slow],
          onAction: (action, { workers }) => {
            if (paused || action.type !== 'add') return;
            paused = true;
            workers[0].pause(15_000);
          },
        }),
      );
      late += outcome.counters.late + outcome.counters.fenced;
      stale += outcome.counters.stale;
    }
    expect(stale).toBeGreaterThan(0);
    expect(late).toBeGreaterThan(0);
  });

  test('all workers die in the middle of a step, and only new ones come', () => {
    for (const seed of seeds) {
      let adds = 0;
      const outcome = simulate(
        quiet(seed, {
          onAction: (action, { workers, world, spawn }) => {
            if (action.type !== 'add' || ++adds !== 8 + (seed % 5)) return;
            for (const worker of workers) worker.kill(seed % 2 === 0 ? 5 : 30_000);
            world.after(3000, () => spawn(fast));
            world.after(3300, () => spawn(slow));
          },
        }),
      );
      expect(outcome.stopped).toBeUndefined();
      expect(outcome.notes.get('join')).toBeGreaterThanOrEqual(4);
    }
  });

  test('a lone slow worker that is silent while it computes is never fenced off', () => {
    for (const seed of seeds) {
      const workers = [{ ...slow, microBatchMs: 60_000, lifeMs: 0 }];
      const outcome = simulate(quiet(seed, { steps: 2, microBatches: 3, workers, faultsUntilMs: 2_000_000 }));
      expect(outcome.counters.fenced).toBe(0);
    }
  });

  test('who joins in the middle of a step takes over what the slow one has not begun', () => {
    for (const seed of seeds) {
      let joined = false;
      const outcome = simulate(
        quiet(seed, {
          steps: 1,
          workers: [slow],
          onAction: (action, { spawn, world }) => {
            // The first micro-batch is its proof; this is the rest.
            if (joined || action.type !== 'assign' || sets.countOf(action.microBatches) === 1) return;
            joined = true;
            world.after(2500, () => spawn(fast));
          },
        }),
      );
      expect(outcome.counters.handedBack).toBeGreaterThan(0);
      expect(outcome.virtualMs).toBeLessThan(12_000);
    }
  });

  test('a hand-back races with the end of the share, a pause or a death', () => {
    let asked = 0;
    for (const seed of seeds)
      simulate(
        quiet(seed, {
          steps: 4,
          microBatches: 12,
          workers: [{ ...fast, latencyMs: 400 }, { ...slow, microBatchMs: 400 }, fast],
          onAction: (action, { workers, owner }) => {
            if (action.type !== 'hand-back') return;
            asked++;
            const late = workers.find((w) => w.link === owner.links.get(action.worker));
            if (seed % 4 === 1) late?.pause(9000);
            if (seed % 4 === 2) late?.kill(20);
          },
        }),
      );
    expect(asked).toBeGreaterThan(0);
  });

  test('an audit finds the worker that lies, and nothing of it is in the weights', () => {
    for (const seed of seeds) {
      const liar = { ...fast, lies: seed % 2 === 0 ? 1 : 0.2 };
      const outcome = simulate(quiet(seed, { audit: 1, minWorkers: 4, workers: [liar, fast, fast, slow] }));
      expect(outcome.stopped).toBeUndefined();
      if (seed % 2 === 0) expect(outcome.notes.get('audit')).toBeGreaterThan(0);
    }
  });

  test('two workers that differ, and no third one, stop the run and are both named', () => {
    for (const seed of seeds) {
      const outcome = simulate(quiet(seed, { audit: 1, minWorkers: 2, workers: [{ ...fast, lies: 1 }, fast] }));
      expect(outcome.stopped).toMatchObject({ why: 'audit', workers: expect.arrayContaining([1, 2]) });
    }
  });

  test('a micro-batch that two workers refuse, or the only one twice, stops the run', () => {
    for (const seed of seeds) {
      const workers = seed % 2 === 0 ? [fast, slow] : [fast];
      const outcome = simulate(quiet(seed, { workers, poisoned: new Map([[2, 3]]) }));
      expect(outcome.stopped).toMatchObject({ why: 'refused', microBatch: 3 });
      expect(outcome.counters.refused).toBe(2);
    }
  });

  test("a micro-batch that the owner's adapter refuses too stops the run after one refusal", () => {
    for (const seed of seeds) {
      const workers = seed % 2 === 0 ? [fast, slow] : [fast];
      const outcome = simulate(quiet(seed, { workers, ownerMs: 50, poisoned: new Map([[2, 3]]) }));
      expect(outcome.stopped).toMatchObject({ why: 'refused', microBatch: 3, workers: [0] });
      expect(outcome.counters.refused).toBe(1);
    }
  });

  test('what one worker alone refuses is computed by another', () => {
    for (const seed of seeds) {
      const outcome = simulate(quiet(seed, { workers: [{ ...fast, refuses: 0.5 }, slow], clips: seed % 2 === 0 }));
      expect(outcome.stopped).toBeUndefined();
    }
  });

  test('the coordinator is killed in the middle of steps and resumes from its checkpoint', () => {
    for (const seed of seeds) {
      let adds = 0;
      const outcome = simulate(
        quiet(seed, {
          checkpointEvery: 2,
          evaluationMicroBatches: 3,
          onAction: (action, simulation) => {
            if (action.type === 'add' && ++adds % 29 === 28 && adds < 100) simulation.restartCoordinator();
          },
        }),
      );
      expect(outcome.incarnations).toBeGreaterThan(1);
    }
  });
});

/** The first seed whose run breaks a promise, as a message. */
function firstFailure(most: number, mutation?: Mutation, roundClass?: typeof Round): string | undefined {
  for (let seed = 0; seed < most; seed++) {
    try {
      simulate(scenarioOf(seed), mutation, roundClass);
    } catch (error) {
      if (error instanceof SimulationFailure) return error.message;
      throw error;
    }
  }
  return undefined;
}

describe('broken on purpose, the simulator finds it', () => {
  const mutations: Mutation[] = ['count-twice', 'forget-one', 'commit-early', 'overwrite-old-weights'];
  test.each(mutations)('in the shell: %s', (mutation) => {
    expect(firstFailure(300, mutation)).toMatch(/^seed \d+: /);
  });

  const root = join(import.meta.dirname, '../..');
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  /** The round with texts of its source replaced. */
  async function mutant(
    changes: readonly (readonly [file: string, from: string, to: string])[],
  ): Promise<typeof Round> {
    const folder = mkdtempSync(join(tmpdir(), 'lantrain-mutant-'));
    folders.push(folder);
    cpSync(join(root, 'cluster/round'), folder, { recursive: true });
    for (const [file, from, to] of changes) {
      const path = join(folder, file);
      const text = readFileSync(path, 'utf8');
      expect(text.split(from), `${file} has "${from}" once`).toHaveLength(2);
      writeFileSync(
        path,
        text.replace(from, () => to),
      );
    }
    return (await import(/* @vite-ignore */ join(folder, 'round.ts'))).Round;
  }

  test.each([
    [
      'a contribution is counted twice',
      [
        ['contributions.ts', 'if (!job.lacksAll(bucket, microBatches)) {', 'if (false) {'],
        ['contributions.ts', 'if (sets.has(a.delivered, bucket)) {', 'if (false) {'],
      ],
    ],
    [
      'a bucket is complete with a micro-batch forgotten',
      [['job.ts', 'if (!equalSets(this.#inside[bucket], this.microBatches)) return false;', '']],
    ],
    [
      'a bucket is complete while it is being added to',
      [['job.ts', 'if (this.#adding[bucket] > 0 || has(this.complete, bucket)) return false;', '']],
    ],
    [
      'what failed to verify is forgotten',
      [
        [
          'contributions.ts',
          'this.dealer.work.open(job, held.microBatches, sets.setOf(job.totalBuckets, [bucket]));',
          '',
        ],
      ],
    ],
    [
      'what a dead worker owed is forgotten',
      [['roster.ts', '      work.drop(a, now);\n      work.reopen(job, a);', '      work.drop(a, now);']],
    ],
    [
      'the step commits before its last bucket is stepped',
      [
        [
          'updates.ts',
          'return this.#steppedCount === this.state.config.parameterBuckets;',
          'return this.#steppedCount > 0;',
        ],
      ],
    ],
    [
      'a bucket is updated before the norm is known',
      [['round.ts', 'if (!clips && audit === 0 && bucket', 'if (audit === 0 && bucket']],
    ],
    [
      'the difference to the old weights is sent after it was overwritten',
      [['weights.ts', ' && !has(weights.ordered, bucket))', ')']],
    ],
    [
      'who was sent nothing is sent differences',
      [['weights.ts', 'version === committed - 1 && committed > weights.first', 'committed > weights.first']],
    ],
    [
      'frames of an earlier incarnation and step are taken',
      [['contributions.ts', 'event.incarnation === config.incarnation && event.step === current?.step;', 'true;']],
    ],
    ['the only worker is fenced off', [['lateness.ts', ' || !this.#anotherCan(member)) continue;', ') continue;']]],
    [
      'a fenced worker keeps its share',
      [
        [
          'dealer.ts',
          '      this.work.revoke(a, now);\n      this.work.reopen(job, a);',
          '      this.work.reopen(job, a);',
        ],
      ],
    ],
    [
      'what was handed back stays in the share',
      [['hand-backs.ts', 'sets.removeAll(a.microBatches, microBatches);\n    a.count', 'a.count']],
    ],
    [
      'a set that was never dealt is taken',
      [['contributions.ts', ' || !sets.equalSets(microBatches, a.microBatches)) {', ') {']],
    ],
    [
      'what a worker had is open again though its twin has it',
      [
        [
          'live-work.ts',
          '(a) =>\n        a.copyOf === undefined &&',
          '(a) =>\n        false && a.copyOf === undefined &&',
        ],
      ],
    ],
    [
      'what is late is twinned again and again',
      [['lateness.ts', 'a.twin = this.dealer.work.assign(', 'this.dealer.work.assign(']],
    ],
    ['nobody is ever late', [['lateness.ts', 'if (now < lateAt) continue;', 'continue;']]],
    ['the back-off never yields', [['manners.ts', 'if (one === undefined) return undefined;', 'return undefined;']]],
    [
      'handing everything back costs nothing',
      [['hand-backs.ts', 'if (count === 0 || isAnswer) this', 'if (true) this']],
    ],
    [
      'votes count by connection',
      [
        ['auditor.ts', 'm.person !== person &&', 'm !== member &&'],
        ['audit.ts', 'if (person === this.assignment.person || (', 'if ((false) || ('],
        ['audit.ts', '.some((v) => v.person === person);', '.some(() => false);'],
        ['audit.ts', 'if (!votes.some((v) => v.person === vote.person)) votes.push(vote);', 'votes.push(vote);'],
      ],
    ],
    [
      "the owner's word is one among others",
      [['audit.ts', 'if (vote.person !== undefined && agreeing', 'if (agreeing']],
    ],
    [
      'what a liar contributed before is forgotten',
      [['auditor.ts', 'this.#mark(worker, person, reason);\n    this.state.close', 'this.state.close']],
    ],
    [
      'what was contributed under an earlier coordinator is forgotten',
      [['person.ts', 'person.firstUnconfirmed = this.firstSteps.get(name);', '']],
    ],
    [
      'weights of audited steps come bucket by bucket',
      [['round.ts', 'if (!clips && audit === 0 && bucket', 'if (!clips && bucket']],
    ],
    [
      'one refusal is believed',
      [
        ['claims.ts', 'if (this.state.ownerAble) return undefined;', ''],
        ['claims.ts', 'return by.length >= 2 && !others', 'return by.length >= 1'],
      ],
    ],
  ] as const)('in the round: %s', async (_, changes) => {
    expect(firstFailure(2000, undefined, await mutant(changes))).toMatch(/^seed \d+: /);
  });
});
