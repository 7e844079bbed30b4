import { describe, expect, test } from 'vitest';
import { lowCodesAt, lowHeadWords, mostLowWords } from '../../cluster/exchange/low-blocks.js';
import { HEADER_BYTES } from '../../cluster/protocol/frame.js';
import { gridExponent } from '../../src/model/grid.js';
import type { StepOutcome } from '../../src/train/engine.js';
import { packLow, packLowSums, smallestCode } from '../reference/low-blocks.js';
import {
  allBuckets,
  batches,
  type Cluster,
  cluster,
  contribute,
  FakeWorker,
  type OnAssign,
  packExact,
  sendHonestly,
  sendPayload,
  setUpClusters,
  type Terms,
  unitsOf,
} from './fake-worker.js';
import { allPartsOf, SHAPE } from './small-cluster.js';
import { until } from './transport-helpers.js';

/* What a worker of the low wire sends wrong is refused whole, and the run ends with the bits of one without it. */

setUpClusters();

const RATE = 1e-3;
const LAST_STEP = 3;

/** All values differ, and need several widths. */
const TERMS: Terms = {
  gradient: (microBatch, bucket, value) =>
    (((7 * value + 13 * microBatch + bucket) % 2001) - 1000) * 2 ** -(20 + (value >> 9)),
  loss: 3n * 2n ** 40n,
};

const wired = (wire: 'exact' | 'low') => cluster({ shape: { ...SHAPE, wire } });

async function train({ engine }: Cluster, from: number, to: number): Promise<StepOutcome[]> {
  const outcomes: StepOutcome[] = [];
  for (let step = from; step <= to; step++) outcomes.push(await engine.step(batches(), step, 1, RATE));
  return outcomes;
}

const references = new Map<string, Promise<unknown>>();

/** Outcomes and state of a run without an attack. */
function undisturbed(wire: 'exact' | 'low'): Promise<unknown> {
  const computed = async () => {
    const test = await wired(wire);
    await FakeWorker.join(test, 'honest', contribute(test, TERMS));
    const outcomes = await train(test, 1, LAST_STEP);
    return { outcomes, state: await allPartsOf(test.engine) };
  };
  const reference = references.get(wire) ?? computed();
  references.set(wire, reference);
  return reference;
}

/** A bucket of one honest contribution, to be spoiled. */
interface Honest {
  readonly bucket: number;
  readonly units: bigint[];
  /** The grid bytes that the units are of, those of the step before, and those of another bucket. */
  readonly grid: Uint8Array;
  readonly stale: Uint8Array;
  readonly other: Uint8Array;
  readonly payload: Uint8Array;
  /** Word of the first code, and of the first block. */
  readonly codesAt: number;
  readonly head: number;
}

type Spoil = (honest: Honest) => Uint8Array;

/** The honest payload with other words; the first one says how many there are. */
const words =
  (change: (words: number[], honest: Honest) => void): Spoil =>
  (honest) => {
    const all = [...new Uint32Array(honest.payload.buffer)];
    change(all, honest);
    return new Uint8Array(Uint32Array.from(all).buffer);
  };

/** The honest payload with one other word. */
const word = (at: (honest: Honest) => number, change: (word: number) => number): Spoil =>
  words((all, honest) => {
    all[at(honest)] = change(all[at(honest)]);
  });

/** One value replaced, in the last block where `place` is negative. */
const valued =
  (place: number, integerOf: (exponent: number) => bigint): Spoil =>
  ({ units, grid }) => {
    const at = place < 0 ? units.length + place : place;
    return packLowSums(units.with(at, integerOf(gridExponent(grid[at >> 6]))), grid);
  };

const codesOf = (units: readonly bigint[]) =>
  Array.from({ length: Math.ceil(units.length / 128) }, (_, i) => smallestCode(units.slice(128 * i, 128 * i + 128)));

const bad: [string, RegExp, Spoil][] = [
  [
    'one word more announced',
    /words announced/,
    word(
      () => 0,
      (w) => w + 1,
    ),
  ],
  [
    'no words announced',
    /words announced/,
    word(
      () => 0,
      () => 0,
    ),
  ],
  [
    'another number of values',
    /values announced/,
    word(
      () => 1,
      (w) => w - 64,
    ),
  ],
  [
    'check a of no grid',
    /another grid/,
    word(
      () => 2,
      (w) => w ^ 1,
    ),
  ],
  [
    'check b of no grid',
    /another grid/,
    word(
      () => 3,
      (w) => w ^ (1 << 31),
    ),
  ],
  ['sums in units of the grid before', /another grid/, ({ units, stale }) => packLowSums(units, stale)],
  ["sums in units of another bucket's grid", /another grid/, ({ units, other }) => packLowSums(units, other)],
  [
    'a code that is too wide',
    /codes ask for/,
    word(
      ({ codesAt }) => codesAt,
      (w) => w + 1,
    ),
  ],
  [
    'a code that is too narrow',
    /codes ask for/,
    word(
      ({ codesAt }) => codesAt,
      (w) => w - 1,
    ),
  ],
  [
    'a code of no block',
    /after the last code/,
    word(
      ({ head }) => head - 1,
      (w) => w | (1 << 28),
    ),
  ],
  [
    'one word too few, as it says',
    /codes ask for/,
    words((all) => {
      all.pop();
      all[0]--;
    }),
  ],
  ['one word too few', /words announced/, words((all) => all.pop())],
  [
    'one word too many, as it says',
    /codes ask for/,
    words((all) => {
      all.push(0);
      all[0]++;
    }),
  ],
  ['one word too many', /words announced/, words((all) => all.push(0))],
  [
    'more words than a bucket can have',
    /more bytes/,
    ({ units }) => new Uint8Array(4 * (mostLowWords(units.length, 'sums') + 1)),
  ],
  ['a head only, without codes', /cannot hold/, words((all) => void all.splice(4))],
  ['no words at all', /cannot hold/, words((all) => void all.splice(0))],
  ['a value that no gradient has', /exceeds/, valued(700, (exponent) => 2n ** BigInt(12 - exponent) + 1n)],
  ['a negative one', /exceeds/, valued(64, (exponent) => -(2n ** BigInt(12 - exponent)) - 1n)],
  ['one in the half of a block', /exceeds/, valued(-1, (exponent) => 2n ** BigInt(12 - exponent) + 1n)],
  ['the smallest integer', /exceeds/, valued(0, () => -(2n ** 63n))],
  ['the form of the exact wire', /malformed blocks/, ({ units }) => packExact(units)],
];

/** A worker that sends `payload` for `bucket`, and then its other buckets honestly. */
const attacking =
  (
    test: Cluster,
    bucket: number,
    payload: (dealt: readonly number[]) => Promise<Uint8Array>,
    spoil?: (frame: Uint8Array) => void,
  ): OnAssign =>
  async (worker, message) => {
    const dealt = message.microBatches.map((m) => m.microBatch);
    sendPayload(worker, message, bucket, await payload(dealt), spoil);
    const rest = allBuckets(test).filter((other) => other !== bucket);
    await sendHonestly(test, worker, message, rest, TERMS);
  };

/** A bucket as an honest worker would send it. `stale`: the grids of the step before. */
async function honestOf(
  test: Cluster,
  bucket: number,
  dealt: readonly number[],
  stale: readonly Uint8Array[] = [],
): Promise<Honest> {
  const units = await unitsOf(test, bucket, dealt, TERMS);
  const grids = (await test.engine.owner.grids()) ?? [];
  const payload = packLowSums(units, grids[bucket] ?? new Uint8Array());
  const [codesAt, head] = [lowCodesAt(units.length, 'sums'), lowHeadWords(units.length, 'sums')];
  const other = grids[1 - bucket];
  return { bucket, units, grid: grids[bucket], stale: stale[bucket], other, payload, codesAt, head };
}

interface Attack {
  readonly wire?: 'exact' | 'low';
  /** The spoiled bucket; -1 is the loss. */
  readonly bucket?: number;
  readonly spoil?: (frame: Uint8Array) => void;
}

/** Trains with a worker that sends one bucket wrong in step 2. Returns why its connection ended, if it did. */
async function attacked(make: Spoil, { wire = 'low', bucket = 0, spoil }: Attack = {}) {
  const test = await wired(wire);
  const { engine } = test;
  await FakeWorker.join(test, 'honest', contribute(test, TERMS));
  const stale = [...((await engine.owner.grids()) ?? [])];
  const outcomes = await train(test, 1, 1);
  const isLoss = bucket < 0;
  const payload = async (dealt: readonly number[]) => make(await honestOf(test, isLoss ? 0 : bucket, dealt, stale));
  const place = isLoss ? engine.owner.buckets.length : bucket;
  const attacker = await FakeWorker.join(test, 'attacker', attacking(test, place, payload, spoil));
  let closed: string | undefined;
  void attacker.closed.then(({ code, message }) => {
    closed = `${code}: ${message}`;
  });
  await until(() => engine.workers.length === 2, 'the attacker joins');
  outcomes.push(...(await train(test, 2, LAST_STEP)));
  if (engine.counters.spoiled > 0) await until(() => closed !== undefined, 'the attacker is told');
  expect(
    attacker.received.some((m) => 'type' in m && m.type === 'assign'),
    'the attacker had work',
  ).toBe(true);
  const state = await allPartsOf(engine);
  return { closed, spoiled: engine.counters.spoiled, workers: engine.workers.length, outcomes, state };
}

/** The attack ended the attacker's connection, and no more. */
async function expectRefused(result: Awaited<ReturnType<typeof attacked>>, why: RegExp, wire: 'exact' | 'low' = 'low') {
  const { closed, spoiled, workers, ...rest } = result;
  expect(closed).toMatch(/^LT_CLUSTER_PAYLOAD: /);
  expect(closed).toMatch(why);
  expect({ spoiled, workers }).toEqual({ spoiled: 1, workers: 1 });
  expect(rest).toEqual(await undisturbed(wire));
}

describe('a coordinator of the low wire', () => {
  test.each(bad)('sends a worker away that contributes %s, and nothing of it is in the sums', async (_, why, spoil) => {
    await expectRefused(await attacked(spoil), why);
  });

  test('sends a worker away whose payload is not what the frame says', async () => {
    const flip = (frame: Uint8Array) => {
      frame[HEADER_BYTES + frame.length / 2] ^= 4;
    };
    await expectRefused(await attacked(({ payload }) => payload, { spoil: flip }), /does not match its checksum/);
  });

  const loss = [3n * 2n ** 40n, ...new Array<bigint>(63).fill(0n)];
  test.each<[string, Spoil]>([
    ['with a check', ({ grid }) => packLowSums(loss, grid)],
    ['without', () => packLow(loss, [0, 0])],
  ])("sends a worker away that contributes the loss in the low wire's format, %s", async (_, spoil) => {
    await expectRefused(await attacked(spoil, { bucket: -1 }), /malformed blocks/);
  });

  test.each<[string, Spoil]>([
    ['of narrow values', ({ units, grid }) => packLowSums(units.fill(1n), grid)],
    ['of all widths', ({ units, grid }) => packLowSums(units, grid, codesOf(units))],
  ])("of the exact wire sends a worker away that contributes the low wire's format, %s", async (_, make) => {
    const grid = new Uint8Array(4 * 27).fill(24);
    const result = await attacked((honest) => make({ ...honest, grid }), { wire: 'exact' });
    await expectRefused(result, /malformed blocks/, 'exact');
  });

  test.each<[string, Spoil]>([
    [
      'values behind the last one of a bucket',
      ({ units, grid }) => {
        const garbage = Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? -(2n ** 63n) : 2n ** 62n + BigInt(i)));
        const payload = packLowSums([...units, ...garbage], grid);
        new Uint32Array(payload.buffer)[1] = units.length;
        return payload;
      },
    ],
    [
      'blocks that are wider than they must be',
      ({ units, grid }) =>
        packLowSums(
          units,
          grid,
          codesOf(units).map((code, i) => Math.min(15, code + (i % 4))),
        ),
    ],
  ])('takes %s, which change no bit', async (_, spoil) => {
    const { closed, spoiled, workers, ...rest } = await attacked(spoil);
    expect({ closed, spoiled, workers }).toEqual({ closed: undefined, spoiled: 0, workers: 2 });
    expect(rest).toEqual(await undisturbed('low'));
  });
});
