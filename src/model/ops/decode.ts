import type { View } from '../../gpu/view.js';
import { attentionKernel } from '../attention.js';
import { type Graph, threadGroups } from '../graph.js';

/** x [C] = wte[token] + wpe[position]; place [2] = token, position. */
export function embedToken(g: Graph, v: { place: View; x: View }): void {
  const { width: C } = g.config;
  for (const piece of g.layout.piecesOf('wte.weight'))
    g.add({
      shader: 'decode',
      entry: 'embed',
      constants: { C, ROW_START: piece.rowStart, ROWS: piece.rows },
      bindings: { place: v.place, wte: g.weights.piece(piece), wpe: g.weights.tensor('wpe.weight'), x: v.x },
      groups: [threadGroups(C)],
    });
}

/** Appends the key and value in qkv [3 C] to the cache [T, 2 C]; then out [C] = attention of the query over the cache. */
export function cachedAttention(g: Graph, v: { place: View; qkv: View; cache: View; scores: View; out: View }): void {
  const { width: C, heads, context: T } = g.config;
  const D = C / heads;
  const { keepSums } = attentionKernel(g.plan.attention);
  const portable = { SCALE2: Math.fround(Math.LOG2E / Math.sqrt(D)), KEEP_SUMS: keepSums };
  const constants = { C, T, D, ...(g.portable && portable) };
  const add = (entry: string, bindings: Record<string, View>, groups: [number, number?]) =>
    g.add({ shader: 'decode', entry, constants, bindings: { place: v.place, ...bindings }, groups });
  add('append', { qkv: v.qkv, cache: v.cache }, [threadGroups(2 * C)]);
  add('score', { qkv: v.qkv, saved: v.cache, scores: v.scores }, [threadGroups(T), heads]);
  add('combine', { saved: v.cache, savedScores: v.scores, x: v.out }, [threadGroups(C)]);
}
