import type { View } from '../../gpu/view.js';
import { extentUniform } from '../extent.js';
import { type Graph, type Rows, rowsIn, threadGroups } from '../graph.js';

/** x [M, C] = dropout(wte[tokens] + wpe). `key` is bound even without `dropout`. */
export function embedding(
  g: Graph,
  v: Rows & { tokens: View; x: View; context: number; key: View; dropout: boolean },
): void {
  const { width: C } = g.config;
  for (const piece of g.layout.piecesOf('wte.weight'))
    g.add({
      shader: 'embedding',
      entry: 'forward',
      constants: { T: v.context, C, ROW_START: piece.rowStart, ROWS: piece.rows, DROPOUT: v.dropout },
      bindings: {
        tokens: v.tokens,
        wte: g.weights.piece(piece),
        wpe: g.weights.tensor('wpe.weight'),
        x: v.x,
        dropoutKey: v.key,
      },
      groups: [threadGroups(C), rowsIn(v)],
      bytes: 12 * rowsIn(v) * C,
    });
}

/** Adds the gradients of both tables. dx [M, C] has already passed through the dropout. `lists` comes from `tokenLists`. */
export function embeddingGradient(g: Graph, v: Rows & { dx: View; lists: View; context: number }): void {
  const { width: C } = g.config;
  const constants = { T: v.context, C };
  for (const piece of g.layout.piecesOf('wte.weight')) {
    const { defines, bindings, uniforms } = g.sumInto(v.dx, piece);
    g.add({
      shader: 'embedding',
      entry: 'tokenGradient',
      defines,
      constants: { ...constants, ROW_START: piece.rowStart, ROWS: piece.rows },
      bindings: { dx: v.dx, lists: v.lists, ...bindings },
      uniforms: { ...extentUniform(v), ...uniforms },
      groups: [threadGroups(C), rowsIn(v)],
      bytes: 20 * rowsIn(v) * C,
    });
  }
  const { defines, bindings, uniforms } = g.sumInto(v.dx, g.piece('wpe.weight'));
  g.add({
    shader: 'embedding',
    entry: 'positionGradient',
    defines,
    constants,
    bindings: { dx: v.dx, ...bindings },
    uniforms: { ...g.stackExtent(v), ...uniforms },
    groups: [threadGroups(C), v.context],
    bytes: 4 * rowsIn(v) * C + 16 * v.context * C,
  });
}
