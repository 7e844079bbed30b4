import { type AttentionShape, attention, attentionGradient } from '../reference/attention.js';
import { dropoutFactor } from '../reference/dropout.js';
import { type Checking, PLACES, ROUNDED_PLACES, shown } from './checking.js';
import type { Runs } from './gather.js';

/*
 * Attention, by both kernels. Some tokens of some heads are computed again, the first and the last token and head among them.
 */

const HEADS = 3;
const LEAST_TOKENS = 3;

/** A head of a sequence, and the tokens of it that are checked. */
interface Head {
  readonly sequence: number;
  readonly head: number;
  readonly tokens: readonly number[];
}

/** The shape of one head alone. */
function headShape(c: Checking): AttentionShape {
  return { batch: 1, heads: 1, context: c.constant('T'), headSize: c.constant('D') };
}

function drawnHeads(c: Checking, valuesEach: number, places: number): Head[] {
  const [, heads = 1, sequences = 1] = c.dispatch.groups;
  const drawn = c.draw(HEADS, heads * sequences);
  const count = Math.max(LEAST_TOKENS, Math.ceil(places / valuesEach / drawn.length));
  return drawn.map((n) => ({
    sequence: Math.floor(n / heads),
    head: n % heads,
    tokens: c.draw(count, c.constant('T')),
  }));
}

/** Parts of the rows of all tokens of a sequence, one head's values of each: `parts` of 0, 1, 2 (queries, keys, values). */
function headRuns(c: Checking, { sequence, head }: Head, columns: number, parts: readonly number[] = [0]): Runs {
  const [T, D, C] = [c.constant('T'), c.constant('D'), c.constant('HEADS') * c.constant('D')];
  return Array.from({ length: T }, (_, i) => i).flatMap((i) =>
    parts.map((part) => [(sequence * T + i) * columns * C + part * C + head * D, D] as const),
  );
}

/** Values of a head that has one a token: logsumexp, delta. */
function tokenRuns(c: Checking, { sequence, head }: Head): Runs {
  const T = c.constant('T');
  return [[(sequence * c.constant('HEADS') + head) * T, T]];
}

/** The dropout factors of the pairs of tokens that the drawn tokens need: [T, T], the others are zero. */
async function factorsOf(c: Checking, { sequence, head, tokens }: Head, backward: boolean) {
  if (!c.has('dropout')) return undefined;
  const key = await c.dropoutKey('dropout');
  const T = c.constant('T');
  const factors = new Float32Array(T * T);
  const put = (i: number, j: number) => {
    factors[i * T + j] = dropoutFactor(key, sequence, (head * T + i) * T + j);
  };
  for (const n of tokens) {
    for (let j = 0; j <= n; j++) put(n, j);
    if (backward) for (let i = n; i < T; i++) put(i, n);
  }
  return factors;
}

/** Values of [T, columns] that belong to the drawn tokens. */
function ofTokens(values: Float32Array, { tokens }: Head, columns: number, first = 0, count = columns): Float32Array {
  return Float32Array.from({ length: tokens.length * count }, (_, n) => {
    return values[tokens[Math.floor(n / count)] * columns + first + (n % count)];
  });
}

function placeIn({ sequence, head, tokens }: Head, count: number): (n: number) => string {
  const one = (n: number) => (count === 1 ? '' : `, value ${n % count}`);
  return (n) => `sequence ${sequence}, head ${head}, token ${tokens[Math.floor(n / count)]}${one(n)}`;
}

/** attention_*.forward, forwardDropout */
export async function checkAttention(c: Checking): Promise<void> {
  const shape = headShape(c);
  const D = shape.headSize;
  const heads = drawnHeads(c, D, ROUNDED_PLACES);
  const wanted = [];
  for (const head of heads) {
    const { qkv } = await c.read({ qkv: headRuns(c, head, 3, [0, 1, 2]) });
    const factors = await factorsOf(c, head, false);
    wanted.push({ head, qkv, ...attention(shape, qkv, factors, head.tokens) });
  }
  c.run();
  for (const { head, qkv, out, logsumexp } of wanted) {
    const got = await c.read({ out: headRuns(c, head, 1), logsumexp: tokenRuns(c, head) });
    const inputs = () => shown('qkv', qkv);
    const rows = [ofTokens(got.logsumexp, head, 1), ofTokens(logsumexp, head, 1)] as const;
    c.same('logsumexp', ...rows, placeIn(head, 1), inputs);
    c.same('out', ofTokens(got.out, head, D), ofTokens(out, head, D), placeIn(head, D), inputs);
  }
}

/** attention_tile.backwardDelta */
export async function checkDelta(c: Checking): Promise<void> {
  const shape = headShape(c);
  const zeros = new Float32Array(shape.context * shape.headSize * 3);
  const wanted = [];
  for (const head of drawnHeads(c, 1, PLACES)) {
    const read = await c.read({ outRead: headRuns(c, head, 1), outGradient: headRuns(c, head, 1) });
    const views = { qkv: zeros, logsumexp: zeros, out: read.outRead, outGradient: read.outGradient };
    wanted.push({ head, ...read, want: attentionGradient(shape, views, undefined, []).delta });
  }
  c.run();
  for (const { head, want, outRead, outGradient } of wanted) {
    const { delta } = await c.read({ delta: tokenRuns(c, head) });
    const inputs = () => `${shown('out', outRead)}, ${shown('outGradient', outGradient)}`;
    c.same('delta', ofTokens(delta, head, 1), ofTokens(want, head, 1), placeIn(head, 1), inputs);
  }
}

/** attention_*.backwardQuery and backwardKey, with and without dropout: the parts of qkvGradient that they write. */
async function checkGradient(c: Checking, parts: readonly number[]): Promise<void> {
  const shape = headShape(c);
  const D = shape.headSize;
  const makesDelta = !c.has('deltaRead');
  const wanted = [];
  for (const head of drawnHeads(c, parts.length * D, ROUNDED_PLACES)) {
    const { qkv, outGradient, logsumexpRead } = await c.read({
      qkv: headRuns(c, head, 3, [0, 1, 2]),
      outGradient: headRuns(c, head, 1),
      logsumexpRead: tokenRuns(c, head),
    });
    const known = makesDelta
      ? { out: (await c.read({ outRead: headRuns(c, head, 1) })).outRead }
      : { out: outGradient, delta: (await c.read({ deltaRead: tokenRuns(c, head) })).deltaRead };
    const views = { qkv, outGradient, logsumexp: logsumexpRead, ...known };
    const want = attentionGradient(shape, views, await factorsOf(c, head, true), head.tokens);
    wanted.push({ head, qkv, outGradient, ...want });
  }
  c.run();
  for (const { head, qkv, outGradient, ...want } of wanted) {
    const inputs = () => `${shown('qkv', qkv)}, ${shown('outGradient', outGradient)}`;
    if (makesDelta) {
      const { delta } = await c.read({ delta: tokenRuns(c, head) });
      c.same('delta', ofTokens(delta, head, 1), ofTokens(want.delta, head, 1), placeIn(head, 1), inputs);
    }
    const { qkvGradient } = await c.read({ qkvGradient: headRuns(c, head, 3, [0, 1, 2]) });
    for (const part of parts) {
      const of = (values: Float32Array) => ofTokens(values, head, 3 * D, part * D, D);
      const name = `qkvGradient, ${['query', 'key', 'value'][part]}`;
      c.same(name, of(qkvGradient), of(want.qkvGradient), placeIn(head, D), inputs);
    }
  }
}

export function checkQueryGradient(c: Checking): Promise<void> {
  return checkGradient(c, [0]);
}

export function checkKeyGradient(c: Checking): Promise<void> {
  return checkGradient(c, [1, 2]);
}
