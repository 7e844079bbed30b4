import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Round } from '../../cluster/round/round.js';
import { sampled } from '../thorough.js';
import { type Mutation, SimulationFailure, scenarioOf, simulate } from './simulator.js';

/** The message of the first seed whose run violates a guarantee. */
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
  test.each(mutations)('some seed finds a broken shell: %s', (mutation) => {
    expect(firstFailure(300, mutation)).toMatch(/^seed \d+: /);
  });

  const root = join(import.meta.dirname, '../..');
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  /** The round with some of its source replaced. */
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

  const changed = [
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
          'this.dealer.work.open(job, pending.microBatches, sets.setOf(job.totalBuckets, [bucket]));',
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
    [
      'the back-off never yields',
      [['eligibility.ts', 'if (one === undefined) return undefined;', 'return undefined;']],
    ],
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
  ] as const;
  test.each(sampled<(typeof changed)[number]>(changed, 10))(
    'some seed finds a broken round: %s',
    async (_, changes) => {
      expect(firstFailure(2000, undefined, await mutant(changes))).toMatch(/^seed \d+: /);
    },
  );
});
