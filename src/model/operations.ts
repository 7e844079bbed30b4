import { slice, switched, type View, valuesIn, wholeVectors } from '../gpu/device.js';
import type { DispatchList } from '../gpu/list.js';
import { type AttentionShape, addAttentionBackward, addAttentionForward } from './attention.js';
import { extentUniform } from './extent.js';
import type { HalfWeights } from './half.js';
import type { ParameterArena, Piece } from './layout.js';
import { addMatmul, type MatmulArguments } from './matmul.js';
import type { Plan } from './plan.js';
import type { ExactSums } from './sums.js';

const THREADS = 64;
/** Threads side by side in sums of columns, four columns each, and the most that share those. */
const COLUMN_LANES = 8;
const COLUMN_SLICES = 16;

const threadGroups = (n: number) => Math.ceil(n / THREADS);

/** Activations of `stack` micro-batches (default 1), one below another, of `rows` rows each. */
interface Rows {
  readonly rows: number;
  readonly stack?: number;
}

/** The rows of all of them. */
const rowsIn = ({ rows, stack = 1 }: Rows) => rows * stack;

/**
 * Launchers of one graph's operations: each names shapes and adds its dispatches to the list. Where shapes below say M,
 * that is the rows of the whole stack.
 */
export class Operations {
  constructor(
    readonly list: DispatchList,
    readonly plan: Plan,
    readonly weights: ParameterArena,
    readonly sums: ExactSums | undefined,
    /** In mixed precision: the float16 copies of the weights, and 1 / the loss scale that gradients carry. */
    readonly mixed?: { readonly copies: HalfWeights; readonly unit: View },
    /** Of matrix products that split K or copy operands. */
    readonly scratch?: View,
    /** Gradients take the place of what the sums held, but for the token embedding's, which are added always. */
    readonly fresh = false,
  ) {}

  #matmul(args: MatmulArguments): void {
    addMatmul(this.list, this.plan.matmul, { ...args, scratch: this.scratch });
  }

  /** The matrix as products read it. */
  #operand(piece: Piece): View {
    return this.mixed?.copies.piece(piece) ?? this.weights.piece(piece);
  }

  /** What a dispatch needs that rounds gradients to the grid. */
  #scaled(): { switches: string[]; bindings: Record<string, View> } {
    const { mixed } = this;
    return mixed ? { switches: ['scaled'], bindings: { gradientUnit: mixed.unit } } : { switches: [], bindings: {} };
  }

  #gradients(): ExactSums {
    if (this.sums === undefined) throw new Error('this graph was built without gradients');
    return this.sums;
  }

  /** x [M, C] = dropout(wte[tokens] + wpe). */
  embedding(v: Rows & { tokens: View; x: View; context: number; key: View; dropout: boolean }): void {
    const { width: C } = this.weights.layout.config;
    for (const piece of this.weights.layout.piecesOf('wte.weight')) {
      this.list.add({
        shader: 'embedding',
        entry: 'forward',
        constants: {
          T: v.context,
          C,
          ROW_START: piece.rowStart,
          ROWS: piece.rows,
          DROPOUT: v.dropout,
        },
        bindings: {
          tokens: v.tokens,
          wte: this.weights.piece(piece),
          wpe: this.weights.tensor('wpe.weight'),
          x: v.x,
          dropoutKey: v.key,
        },
        groups: [threadGroups(C), rowsIn(v)],
        bytes: 12 * rowsIn(v) * C,
      });
    }
  }

  /** Adds the gradients of both tables; dx [M, C] has passed the dropout already. */
  embeddingGradient(v: Rows & { dx: View; lists: View; context: number }): void {
    const { width: C } = this.weights.layout.config;
    const { low, high, status } = this.#gradients();
    const constants = { T: v.context, C };
    const scaled = this.#scaled();
    const switches = [...scaled.switches, ...switched({ halfGradient: v.dx })];
    for (const piece of this.weights.layout.piecesOf('wte.weight')) {
      this.list.add({
        shader: 'embedding',
        entry: 'token_gradient',
        switches,
        constants: { ...constants, ROW_START: piece.rowStart, ROWS: piece.rows },
        bindings: {
          dx: v.dx,
          lists: v.lists,
          low: low.piece(piece),
          high: high.piece(piece),
          status: status('wte.weight'),
          ...scaled.bindings,
        },
        uniforms: extentUniform(v),
        groups: [threadGroups(C), rowsIn(v)],
        bytes: 20 * rowsIn(v) * C,
      });
    }
    const name = 'wpe.weight';
    this.list.add({
      shader: 'embedding',
      entry: 'position_gradient',
      constants,
      switches,
      bindings: {
        dx: v.dx,
        low: low.tensor(name),
        high: high.tensor(name),
        status: status(name),
        ...scaled.bindings,
      },
      uniforms: this.#stackExtent(v),
      groups: [threadGroups(C), v.context],
      bytes: 4 * rowsIn(v) * C + 16 * v.context * C,
    });
  }

  /** y = LayerNorm(x) with the parameters `name`; x, y [M, C], stats [M, 2]. */
  layerNorm(name: string, v: Rows & { x: View; y: View; stats: View }): void {
    const { width: C } = this.weights.layout.config;
    this.list.add({
      shader: 'layernorm',
      entry: 'forward',
      switches: switched({ halfY: v.y }),
      constants: this.#rowConstants({ C }),
      bindings: {
        x: wholeVectors(v.x),
        gain: wholeVectors(this.weights.tensor(`${name}.weight`)),
        bias: wholeVectors(this.weights.tensor(`${name}.bias`)),
        y: wholeVectors(v.y),
        stats: v.stats,
      },
      uniforms: extentUniform({ rows: rowsIn(v) }),
      groups: [Math.ceil(rowsIn(v) / this.plan.rowsPerGroup)],
      bytes: 8 * rowsIn(v) * C,
    });
  }

  /**
   * dx = the gradient through LayerNorm, on top of what dx held where it is `passing` by; adds the gradients of its
   * gain and bias. With `dropout`, its `gradient` becomes dx through that dropout as well.
   */
  layerNormGradient(
    name: string,
    v: Rows & {
      x: View;
      stats: View;
      dy: View;
      dx: View;
      passing: boolean;
      dropout?: { key: View; rowsPerSequence: number; gradient: View };
    },
  ): void {
    const { layout } = this.weights;
    const { width: C } = layout.config;
    const { dropout } = v;
    const [x, dy] = [wholeVectors(v.x), wholeVectors(v.dy)];
    const bindings = {
      x,
      gain: wholeVectors(this.weights.tensor(`${name}.weight`)),
      savedStats: v.stats,
      dy,
      dx: wholeVectors(v.dx),
    };
    this.list.add({
      shader: 'layernorm',
      switches: switched({ halfGradient: v.dy, halfDropped: dropout?.gradient }),
      entry: dropout ? 'backwardDropout' : 'backward',
      constants: {
        ...this.#rowConstants({ C }),
        PASSING: v.passing,
        ...(dropout && { T: dropout.rowsPerSequence }),
      },
      bindings: dropout ? { ...bindings, dropped: wholeVectors(dropout.gradient), dropoutKey: dropout.key } : bindings,
      uniforms: extentUniform({ rows: rowsIn(v) }),
      groups: [Math.ceil(rowsIn(v) / this.plan.rowsPerGroup)],
      label: 'layernorm.backward',
      bytes: (12 + (v.passing ? 4 : 0) + (dropout ? 4 : 0)) * rowsIn(v) * C,
    });
    const [gain] = layout.piecesOf(`${name}.weight`);
    const [bias] = layout.piecesOf(`${name}.bias`);
    const biasAt = bias.offset - gain.offset;
    const scaled = this.#scaled();
    const switches = [...scaled.switches, ...switched({ halfGradient: dy })];
    const { low, high, status } = this.#gradients();
    this.list.add({
      shader: 'columns',
      entry: 'norm',
      switches,
      constants: { ...this.#columnConstants(v, C), BIAS_AT: biasAt },
      bindings: {
        dy,
        x,
        stats: v.stats,
        low: low.range(gain.slab, gain.offset, biasAt + C),
        high: high.range(gain.slab, gain.offset, biasAt + C),
        status: status(`${name}.weight`),
        ...scaled.bindings,
      },
      uniforms: this.#stackExtent(v),
      groups: [Math.ceil(C / 4 / COLUMN_LANES)],
      bytes: 8 * rowsIn(v) * C + 32 * C,
    });
  }

  /** Adds the gradient of the bias `name`: the column sums of dy [M, N]. */
  biasGradient(name: string, v: Rows & { dy: View }): void {
    const [piece] = this.weights.layout.piecesOf(name);
    const N = piece.size;
    const scaled = this.#scaled();
    const { low, high, status } = this.#gradients();
    this.list.add({
      shader: 'columns',
      entry: 'bias',
      switches: [...scaled.switches, ...switched({ halfGradient: v.dy })],
      constants: this.#columnConstants(v, N),
      bindings: {
        dy: wholeVectors(v.dy),
        low: low.piece(piece),
        high: high.piece(piece),
        status: status(name),
        ...scaled.bindings,
      },
      uniforms: this.#stackExtent(v),
      groups: [Math.ceil(N / 4 / COLUMN_LANES)],
      bytes: 4 * rowsIn(v) * N + 16 * N,
    });
  }

  /** Of kernels that add up the micro-batches of a stack one by one. */
  #stackExtent({ rows, stack }: Rows) {
    return extentUniform({ rows, stack, fresh: this.fresh });
  }

  /** Where a row has one thread, a column has one, too. */
  #columnConstants({ rows, stack = 1 }: Rows, N: number) {
    const { columnRows, rowLanes } = this.plan;
    const slices = rowLanes === 1 ? 1 : Math.min(COLUMN_SLICES, stack * Math.ceil(rows / columnRows));
    return { N, ROWS: columnRows, LANES: COLUMN_LANES, SLICES: slices };
  }

  /**
   * y [M, N] = x [M, K] W + b by the linear layer `name` (W is K x N; b where the model has one), then
   * either `gelu` (y keeps the pre-activation), or dropout and the residual.
   */
  linear(
    name: string,
    v: Rows & {
      x: View;
      y: View;
      gelu?: View;
      dropout?: { key: View; rowsPerSequence: number };
      residual?: View;
    },
  ): void {
    const weight = `${name}.weight`;
    const [k, n] = this.#shape(weight);
    this.#matmul({
      layout: 'NN',
      m: v.rows,
      n,
      k,
      stack: v.stack,
      a: v.x,
      lda: k,
      b: this.#operand(this.#matrix(weight)),
      ldb: n,
      output: {
        kind: 'store',
        c: v.y,
        ldc: n,
        bias: this.#hasBias(name) ? this.weights.tensor(`${name}.bias`) : undefined,
        gelu: v.gelu,
        dropout: v.dropout,
        residual: v.residual,
      },
      label: 'linear',
    });
  }

  /**
   * dx [M, K] = dy [M, N] W^T, times GELU's derivative at `hidden` where given; adds the gradients x^T dy of the
   * matrix and, where there is one, of the bias.
   */
  linearGradient(name: string, v: Rows & { x: View; dy: View; dx: View; hidden?: View }): void {
    const weight = `${name}.weight`;
    const [k, n] = this.#shape(weight);
    this.#matmul({
      layout: 'NT',
      m: v.rows,
      n: k,
      k: n,
      stack: v.stack,
      a: v.dy,
      lda: n,
      b: this.#operand(this.#matrix(weight)),
      ldb: n,
      output: { kind: 'store', c: v.dx, ldc: k, geluGradient: v.hidden },
      label: 'linear input gradient',
    });
    const { low, high, status } = this.#gradients();
    this.#matmul({
      layout: 'TN',
      m: k,
      n,
      k: v.rows,
      stack: v.stack,
      a: v.x,
      lda: k,
      b: v.dy,
      ldb: n,
      output: {
        kind: 'grid',
        low: low.tensor(weight),
        high: high.tensor(weight),
        status: status(weight),
        ldc: n,
        unit: this.mixed?.unit,
        fresh: this.fresh,
      },
      label: 'linear weight gradient',
    });
    if (this.#hasBias(name)) this.biasGradient(`${name}.bias`, v);
  }

  /** logits [M, stride] = x [M, C] times the head's matrix [V, C] transposed, window by window. */
  head(v: Rows & { x: View; logits: View; stride: number }): void {
    const { width: C } = this.weights.layout.config;
    for (const piece of this.#headPieces()) {
      this.#matmul({
        layout: 'NT',
        m: v.rows,
        n: piece.rows,
        k: C,
        stack: v.stack,
        a: v.x,
        lda: C,
        b: this.#operand(piece),
        ldb: C,
        output: { kind: 'store', c: columnsFrom(v.logits, piece.rowStart), ldc: v.stride },
        label: 'head',
      });
    }
  }

  /** dx [M, C] = dLogits [M, stride] times the head's matrix; adds the matrix's gradient, of which this `isFirst` or not. */
  headGradient(v: Rows & { x: View; dLogits: View; dx: View; stride: number; isFirst: boolean }): void {
    const { width: C } = this.weights.layout.config;
    const { low, high, status } = this.#gradients();
    for (const [i, piece] of this.#headPieces().entries()) {
      const a = columnsFrom(v.dLogits, piece.rowStart);
      this.#matmul({
        layout: 'NN',
        m: v.rows,
        n: C,
        k: piece.rows,
        stack: v.stack,
        a,
        lda: v.stride,
        b: this.#operand(piece),
        ldb: C,
        output: { kind: 'store', c: v.dx, ldc: C, accumulate: i > 0 },
        label: 'head input gradient',
      });
      this.#matmul({
        layout: 'TN',
        m: piece.rows,
        n: C,
        k: v.rows,
        stack: v.stack,
        a,
        lda: v.stride,
        b: v.x,
        ldb: C,
        output: {
          kind: 'grid',
          low: low.piece(piece),
          high: high.piece(piece),
          status: status(piece.parameter.name),
          ldc: C,
          unit: this.mixed?.unit,
          fresh: this.fresh && v.isFirst,
        },
        label: 'head weight gradient',
      });
    }
  }

  #headPieces(): readonly Piece[] {
    const { layout } = this.weights;
    return layout.piecesOf(layout.config.tie ? 'wte.weight' : 'lm_head.weight');
  }

  /** A matrix that is one piece. */
  #matrix(name: string): Piece {
    const pieces = this.weights.layout.piecesOf(name);
    if (pieces.length !== 1) throw new RangeError(`${name} is bound in ${pieces.length} windows`);
    return pieces[0];
  }

  #shape(weight: string): readonly number[] {
    return this.weights.layout.piecesOf(weight)[0].parameter.shape;
  }

  #hasBias(name: string): boolean {
    return !name.endsWith('c_attn') || this.weights.layout.config.qkvBias;
  }

  attention(shape: AttentionShape, v: Parameters<typeof addAttentionForward>[3]): void {
    addAttentionForward(this.list, this.plan.attention, shape, v);
  }

  attentionGradient(shape: AttentionShape, v: Parameters<typeof addAttentionBackward>[3]): void {
    addAttentionBackward(this.list, this.plan.attention, shape, v);
  }

  /** x [C] = wte[token] + wpe[position]; place [2] = token, position. */
  embedToken(v: { place: View; x: View }): void {
    const { width: C } = this.weights.layout.config;
    const wpe = this.weights.tensor('wpe.weight');
    for (const piece of this.weights.layout.piecesOf('wte.weight')) {
      this.list.add({
        shader: 'decode',
        entry: 'embed',
        constants: { C, ROW_START: piece.rowStart, ROWS: piece.rows },
        bindings: { place: v.place, wte: this.weights.piece(piece), wpe, x: v.x },
        groups: [threadGroups(C)],
      });
    }
  }

  /** out [C] = attention of the one query in qkv [3 C] over the cache [T, 2 C], which its key and value join first. */
  cachedAttention(v: { place: View; qkv: View; cache: View; scores: View; out: View }): void {
    const { width: C, heads, context: T } = this.weights.layout.config;
    const constants = { C, T, D: C / heads };
    const add = (entry: string, bindings: Record<string, View>, groups: [number, number?]) =>
      this.list.add({ shader: 'decode', entry, constants, bindings: { place: v.place, ...bindings }, groups });
    add('append', { qkv: v.qkv, cache: v.cache }, [threadGroups(2 * C)]);
    add('score', { qkv: v.qkv, saved: v.cache, scores: v.scores }, [threadGroups(T), heads]);
    add('combine', { saved: v.cache, savedScores: v.scores, x: v.out }, [threadGroups(C)]);
  }

  /**
   * The losses of M rows of logits (stride values apart); with `scale`, the logits become their own gradients.
   */
  crossEntropy(v: Rows & { logits: View; targets: View; losses: View; stride: number; scale?: View }): void {
    const { vocabSize: V } = this.weights.layout.config;
    this.list.add({
      shader: 'cross_entropy',
      entry: v.scale ? 'gradient' : 'loss',
      constants: this.#rowConstants({ V, STRIDE: v.stride }),
      bindings: { logits: v.logits, targets: v.targets, losses: v.losses, ...(v.scale && { scale: v.scale }) },
      uniforms: extentUniform({ rows: rowsIn(v) }),
      groups: [Math.ceil(rowsIn(v) / this.plan.rowsPerGroup)],
      bytes: (v.scale ? 12 : 4) * rowsIn(v) * V,
    });
  }

  /** total (64 bits on the grid) += the sum of all losses. */
  sumLosses(v: { losses: View; total: View; status: View }): void {
    this.list.add({
      shader: 'cross_entropy',
      entry: 'sum_losses',
      constants: {},
      bindings: { allLosses: v.losses, total: v.total, status: v.status },
      groups: [1],
      bytes: v.losses.size,
    });
  }

  #rowConstants<T extends Record<string, number>>(constants: T): T & { LANES: number; ROWS: number } {
    return { ...constants, LANES: this.plan.rowLanes, ROWS: this.plan.rowsPerGroup };
  }
}

/** The columns of a row-major matrix from `column` on (a multiple of 64), with the same stride. */
function columnsFrom(matrix: View, column: number): View {
  return slice(matrix, column, valuesIn(matrix) - column);
}
