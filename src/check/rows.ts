import { type DropoutWords, dropoutFactor } from '../reference/dropout.js';
import { toFixedPoint } from '../reference/fixed-point.js';
import {
  columnSums,
  crossEntropy,
  embedding,
  embeddingBackward,
  layerNorm,
  layerNormBackward,
} from '../reference/rows.js';
import { type Checking, ones, PLACES, ROUNDED_PLACES, shown, wordsOf } from './checking.js';
import type { Runs } from './gather.js';
import { addedSums, readSums } from './sums.js';

/* Operations on rows: LayerNorm, cross-entropy, sums of columns, the embedding. */

/** Rows that are drawn at least, also where one has enough values: the last of a workgroup, the last of all. */
const LEAST_ROWS = 6;

/** Logits of all drawn rows at most, apart from LEAST_ROWS: the reference takes some 0.2 microseconds for each. */
const MOST_LOGITS = 2 ** 20;

/** Rows with `places` values together. */
function drawnRows(c: Checking, rows: number, columns: number, places = PLACES): number[] {
  return c.draw(Math.max(LEAST_ROWS, Math.ceil(places / columns)), rows);
}

function rowRuns(rows: readonly number[], columns: number, stride = columns): Runs {
  return rows.map((row) => [row * stride, columns]);
}

function placeIn(rows: readonly number[], columns: number): (n: number) => string {
  return (n) => `row ${rows[Math.floor(n / columns)]}, column ${n % columns}`;
}

/** The values of every `step`-th place from `first` on. */
function every(values: Float32Array, step: number, first: number): Float32Array {
  return Float32Array.from({ length: values.length / step }, (_, i) => values[step * i + first]);
}

/** The factors of the dropout of rows of `columns` values, `each` rows a sequence. */
function rowFactors(key: DropoutWords, rows: readonly number[], columns: number, each: number): Float32Array {
  return Float32Array.from({ length: rows.length * columns }, (_, n) => {
    const row = rows[Math.floor(n / columns)];
    return dropoutFactor(key, Math.floor(row / each), (row % each) * columns + (n % columns));
  });
}

/** layernorm.forward */
export async function checkNorm(c: Checking): Promise<void> {
  const C = c.constant('C');
  const rows = drawnRows(c, c.extent.rows, C, ROUNDED_PLACES);
  const [all, pairs] = [rowRuns(rows, C), rowRuns(rows, 2)];
  const { x, gain, bias } = await c.read({ x: all, gain: [[0, C]], bias: [[0, C]] });
  const { y, mean, rstd } = layerNorm(x, gain, bias, C);
  c.run();
  const got = await c.read({ y: all, stats: pairs });
  const inputs = (n: number) => shown('x', x.subarray(n * C, (n + 1) * C));
  const row = (n: number) => `row ${rows[n]}`;
  c.same('stats, mean', every(got.stats, 2, 0), mean, row, inputs);
  c.same('stats, 1 / deviation', every(got.stats, 2, 1), rstd, row, inputs);
  c.same('y', got.y, y, placeIn(rows, C), (n) => inputs(Math.floor(n / C)));
}

/** layernorm.backward and its other forms */
export async function checkNormGradient(c: Checking): Promise<void> {
  const C = c.constant('C');
  const rows = drawnRows(c, c.extent.rows, C);
  const all = rowRuns(rows, C);
  const { x, gain, dy, dx, savedStats } = await c.read({
    x: all,
    gain: [[0, C]],
    dy: all,
    dx: all,
    savedStats: rowRuns(rows, 2),
  });
  const factors = c.has('dropoutKey')
    ? rowFactors(await c.dropoutKey('dropoutKey'), rows, C, c.constant('T'))
    : undefined;
  const statistics = { mean: every(savedStats, 2, 0), rstd: every(savedStats, 2, 1) };
  const residual = c.flag('ACCUMULATE') ? dx : undefined;
  const want = layerNormBackward({ x, statistics, gain, dy, C, residual, factors });
  c.run();
  const inputs = (n: number) => `${shown('x', [x[n]])}, ${shown('dy', [dy[n]])}`;
  c.same('dx', (await c.read({ dx: all })).dx, want.dx, placeIn(rows, C), inputs);
  if (c.has('dropped'))
    c.same('dropped', (await c.read({ dropped: all })).dropped, want.dropped, placeIn(rows, C), inputs);
}

/** columns.bias, columns.norm */
export async function checkColumns(c: Checking): Promise<void> {
  const N = c.constant('N');
  const { rows, stack, accumulate } = c.extent;
  const columns = c.draw(PLACES, N);
  const n = columns.length;
  const all = Uint32Array.from({ length: stack * rows * n }, (_, i) => Math.floor(i / n) * N + columns[i % n]);
  const isNorm = c.dispatch.entry === 'norm';
  const { dy } = await c.read({ dy: all });
  const { x, stats } = isNorm
    ? await c.read({ x: all, stats: [[0, 2 * stack * rows]] })
    : { x: undefined, stats: undefined };
  const bias: Float32Array[] = [];
  const gain: Float32Array[] = [];
  for (let s = 0; s < stack; s++) {
    const part = (values: Float32Array, each = n) => values.subarray(s * rows * each, (s + 1) * rows * each);
    if (x === undefined || stats === undefined) bias.push(columnSums(part(dy), n));
    else {
      const own = part(stats, 2);
      const statistics = { mean: every(own, 2, 0), rstd: every(own, 2, 1) };
      // The sums of columns do not depend on the gain.
      const ones = new Float32Array(n).fill(1);
      const back = layerNormBackward({ x: part(x), statistics, gain: ones, dy: part(dy), C: n });
      bias.push(back.dBias);
      gain.push(back.dGain);
    }
  }
  const biasAt = isNorm ? c.constant('BIAS_AT') : 0;
  const biases = columns.map((column) => biasAt + column);
  const wantBias = await addedSums(c, biases, bias, accumulate);
  const wantGain = isNorm ? await addedSums(c, columns, gain, accumulate) : undefined;
  c.run();
  const place = (i: number) => `column ${columns[i]}`;
  const inputs = (i: number) =>
    shown(
      'dy',
      Float32Array.from({ length: rows }, (_, row) => dy[row * n + i]),
    );
  if (wantGain) c.sameSums(await readSums(c, columns), wantGain, (i) => `gain, ${place(i)}`, inputs);
  c.sameSums(await readSums(c, biases), wantBias, (i) => `bias, ${place(i)}`, inputs);
}

/** cross_entropy.loss, cross_entropy.gradient */
export async function checkLoss(c: Checking): Promise<void> {
  const [V, stride] = [c.constant('V'), c.constant('STRIDE')];
  const isGradient = c.dispatch.entry === 'gradient';
  const wanted = isGradient ? Math.ceil(ROUNDED_PLACES / V) : PLACES;
  const count = Math.max(LEAST_ROWS, Math.min(wanted, Math.floor(MOST_LOGITS / V)));
  const rows = c.draw(count, c.extent.rows);
  const all = rowRuns(rows, V, stride);
  const { logits, targets } = await c.read({ logits: all, targets: ones(rows) });
  const scale = c.has('scale') ? (await c.read({ scale: [[0, 1]] })).scale[0] : 0;
  const want = crossEntropy(logits, V, V, wordsOf(targets), scale);
  c.run();
  const inputs = (n: number) => shown('logits', logits.subarray(n * V, (n + 1) * V));
  const { losses } = await c.read({ losses: ones(rows) });
  c.same('losses', losses, want.losses, (n) => `row ${rows[n]}`, inputs);
  if (!isGradient) return;
  const place = placeIn(rows, V);
  c.same('logits', (await c.read({ logits: all })).logits, want.gradient, place, (n) => shown('logit', [logits[n]]));
}

/** cross_entropy.sumLosses */
export async function checkLossSum(c: Checking): Promise<void> {
  const total: Runs = [[0, 2]];
  const before = wordsOf((await c.read({ total })).total);
  const { allLosses } = await c.read({ allLosses: [[0, c.valuesIn('allLosses')]] });
  const start = (BigInt(before[1] | 0) << 32n) + BigInt(before[0]);
  const sum = allLosses.reduce((all, loss) => all + toFixedPoint(loss), start);
  c.run();
  const after = (await c.read({ total })).total;
  const words = { low: after.slice(0, 1), high: after.slice(1, 2) };
  c.sameSums(
    words,
    [sum],
    () => 'total',
    () => shown('losses', allLosses),
  );
}

/** embedding.forward */
export async function checkEmbedding(c: Checking): Promise<void> {
  const [T, C, first, count] = [c.constant('T'), c.constant('C'), c.constant('ROW_START'), c.constant('ROWS')];
  const [, M = 1] = c.dispatch.groups;
  const tokens = wordsOf((await c.read({ tokens: [[0, M]] })).tokens);
  const here = [...tokens.keys()].filter((row) => tokens[row] >= first && tokens[row] < first + count);
  const rows = drawnRows(c, here.length, C).map((i) => here[i]);
  const { wte, wpe } = await c.read({
    wte: rowRuns(
      rows.map((row) => tokens[row] - first),
      C,
    ),
    wpe: rowRuns(
      rows.map((row) => row % T),
      C,
    ),
  });
  const factors = c.flag('DROPOUT') ? rowFactors(await c.dropoutKey('dropoutKey'), rows, C, T) : undefined;
  // Rows were read side by side, so row n has token n at position n.
  const want = embedding([...rows.keys()], wte, wpe, { T: rows.length, C }, factors);
  c.run();
  const { x } = await c.read({ x: rowRuns(rows, C) });
  c.same('x', x, want, placeIn(rows, C), (n) => `${shown('wte', [wte[n]])}, ${shown('wpe', [wpe[n]])}`);
}

/** The sum of rows of dx, in order: [C]. */
function rowsAdded(dx: Float32Array, C: number): Float32Array {
  return embeddingBackward(new Uint32Array(dx.length / C), dx, { T: 1, C, V: 1 }).dWte;
}

/** embedding.tokenGradient */
export async function checkTokenGradient(c: Checking): Promise<void> {
  const [C, first, count] = [c.constant('C'), c.constant('ROW_START'), c.constant('ROWS')];
  const { rows: each, stack } = c.extent;
  const M = each * stack;
  const lists = wordsOf((await c.read({ lists: [[0, 1 + 3 * M]] })).lists);
  const unique = lists[0];
  const here = Array.from({ length: unique }, (_, u) => u).filter((u) => {
    const token = lists[1 + u];
    return token >= first && token < first + count;
  });
  const drawn = drawnRows(c, here.length, C).map((i) => here[i]);
  const rowsOf = (u: number) =>
    Array.from(lists.subarray(1 + 2 * M, 1 + 3 * M)).slice(lists[1 + M + u], u + 1 < unique ? lists[1 + M + u + 1] : M);
  const indices = drawn.flatMap((u) => Array.from({ length: C }, (_, n) => (lists[1 + u] - first) * C + n));
  const addends = Array.from({ length: stack }, () => new Float32Array(indices.length));
  const read: Float32Array[] = [];
  for (const [i, u] of drawn.entries()) {
    const rows = rowsOf(u);
    const { dx } = await c.read({ dx: rowRuns(rows, C) });
    read.push(dx);
    for (let s = 0; s < stack; s++) {
      const own = [...rows.keys()].filter((n) => Math.floor(rows[n] / each) === s);
      const values = Float32Array.from({ length: own.length * C }, (_, n) => dx[own[Math.floor(n / C)] * C + (n % C)]);
      if (own.length > 0) addends[s].set(rowsAdded(values, C), i * C);
    }
  }
  const want = await addedSums(c, indices, addends, true);
  c.run();
  const place = (n: number) => `token ${lists[1 + drawn[Math.floor(n / C)]]}, column ${n % C}`;
  c.sameSums(await readSums(c, indices), want, place, (n) => shown('dx', every(read[Math.floor(n / C)], C, n % C)));
}

/** embedding.positionGradient */
export async function checkPositionGradient(c: Checking): Promise<void> {
  const [T, C] = [c.constant('T'), c.constant('C')];
  const { rows: each, stack, accumulate } = c.extent;
  const positions = drawnRows(c, T, C);
  const indices = positions.flatMap((t) => Array.from({ length: C }, (_, n) => t * C + n));
  const addends = Array.from({ length: stack }, () => new Float32Array(indices.length));
  const read: Float32Array[] = [];
  for (const [i, t] of positions.entries())
    for (const [s, sums] of addends.entries()) {
      const rows = Array.from({ length: Math.ceil((each - t) / T) }, (_, n) => s * each + t + n * T);
      const { dx } = await c.read({ dx: rowRuns(rows, C) });
      if (s === 0) read.push(dx);
      sums.set(rowsAdded(dx, C), i * C);
    }
  const want = await addedSums(c, indices, addends, accumulate);
  c.run();
  const place = (n: number) => `position ${positions[Math.floor(n / C)]}, column ${n % C}`;
  c.sameSums(await readSums(c, indices), want, place, (n) => shown('dx', every(read[Math.floor(n / C)], C, n % C)));
}
