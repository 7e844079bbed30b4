import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { bufferBytes, paperView, type View } from '../gpu/view.js';
import type { ModelConfig } from './config.js';
import type { Plan } from './plan.js';
import { type BatchShape, headPasses, logitsStride } from './shape.js';

/** Sizes that follow from model, batch and plan, and that decide how many values a buffer has. */
interface Sizes {
  /** Tokens that the graph computes at once: those of a stack of micro-batches in training, 1 in sampling. */
  readonly M: number;
  readonly C: number;
  readonly H: number;
  /** Largest number of tokens of a sequence. */
  readonly T: number;
  /** Logits that are held at once, in values. */
  readonly logits: number;
  /** Whether the gradient of the residual stream goes on in a buffer of its own: with dropout, or rounded. */
  readonly passes: boolean;
  /** Values of scratch that products need for split-K and for copies of operands. */
  readonly scratch: number;
}

interface BufferRow {
  /**
   * `once`: one for the graph. `layer`: one a layer; but one for all layers in sampling, and where backward computes layers
   * again, because no layer's is read after the next one's is written. `boundary`: one before each layer and one behind the
   * last; but one for all in sampling. `cache`: always one a layer.
   */
  readonly scope: 'once' | 'layer' | 'boundary' | 'cache';
  readonly graph: 'training' | 'sampling' | 'both';
  /** Its number of values, of 32 bits unless `f16`. A buffer of 0 values does not exist. */
  readonly values: (sizes: Sizes) => number;
  /** Float16 in mixed precision: all that matrix products and attention read, except the logits. */
  readonly f16?: true;
  /** Rounded to 12 bits in portable arithmetic, when stored: what only products and attention read, or nearly only. */
  readonly rounded?: true;
}

/**
 * Every buffer of a graph besides the parameters, in the order of the forward pass, then of the backward pass. Matrices are
 * row-major. A name with a `d` in front is the gradient of the loss by the buffer of that name.
 */
const BUFFERS = {
  /** [M] u32 */
  tokens: { scope: 'once', graph: 'training', values: ({ M }) => M },
  targets: { scope: 'once', graph: 'training', values: ({ M }) => M },
  losses: { scope: 'once', graph: 'training', values: ({ M }) => M },
  /** [2] u32: the next token and its position. */
  token: { scope: 'once', graph: 'sampling', values: () => 2 },
  /** [M, C]: the residual stream. */
  x: { scope: 'boundary', graph: 'both', values: ({ M, C }) => M * C },
  norm1: { scope: 'layer', graph: 'both', f16: true, rounded: true, values: ({ M, C }) => M * C },
  stats1: { scope: 'layer', graph: 'both', values: ({ M }) => 2 * M },
  /** [M, 3 C]: queries, keys and values side by side. */
  qkv: { scope: 'layer', graph: 'both', f16: true, rounded: true, values: ({ M, C }) => 3 * M * C },
  attention: { scope: 'layer', graph: 'both', f16: true, rounded: true, values: ({ M, C }) => M * C },
  logsumexp: { scope: 'layer', graph: 'training', values: ({ M, H }) => M * H },
  /** [T, 2 C]: keys and values of the tokens so far. */
  cache: { scope: 'cache', graph: 'sampling', values: ({ T, C }) => T * 2 * C },
  scores: { scope: 'once', graph: 'sampling', values: ({ H, T }) => H * T },
  /** [M, C]: the residual stream between attention and feed-forward. */
  middle: { scope: 'layer', graph: 'both', values: ({ M, C }) => M * C },
  norm2: { scope: 'layer', graph: 'training', f16: true, rounded: true, values: ({ M, C }) => M * C },
  stats2: { scope: 'layer', graph: 'training', values: ({ M }) => 2 * M },
  /** [M, 4 C]: the feed-forward's inside before GELU, and after it. */
  hidden: { scope: 'layer', graph: 'both', f16: true, values: ({ M, C }) => 4 * M * C },
  gelu: { scope: 'layer', graph: 'both', f16: true, rounded: true, values: ({ M, C }) => 4 * M * C },
  final: { scope: 'once', graph: 'training', f16: true, rounded: true, values: ({ M, C }) => M * C },
  finalStats: { scope: 'once', graph: 'training', values: ({ M }) => 2 * M },
  logits: { scope: 'once', graph: 'both', values: ({ logits }) => logits },
  scratch: { scope: 'once', graph: 'both', values: ({ scratch }) => scratch },
  /** Rows sorted by token (`tokenLists`). */
  lists: { scope: 'once', graph: 'training', values: ({ M }) => 1 + 3 * M },
  dx: { scope: 'once', graph: 'training', values: ({ M, C }) => M * C },
  dNorm: { scope: 'once', graph: 'training', f16: true, values: ({ M, C }) => M * C },
  dHidden: { scope: 'once', graph: 'training', f16: true, rounded: true, values: ({ M, C }) => 4 * M * C },
  dAttention: { scope: 'once', graph: 'training', f16: true, rounded: true, values: ({ M, C }) => M * C },
  delta: { scope: 'once', graph: 'training', values: ({ M, H }) => M * H },
  dQkv: { scope: 'once', graph: 'training', f16: true, rounded: true, values: ({ M, C }) => 3 * M * C },
  dDropped: {
    scope: 'once',
    graph: 'training',
    f16: true,
    rounded: true,
    values: ({ M, C, passes }) => (passes ? M * C : 0),
  },
} as const satisfies Readonly<Record<string, BufferRow>>;

type Table = typeof BUFFERS;
export type GraphName = 'training' | 'sampling';

/** The buffers of a graph. */
export type BufferName<G extends GraphName> = {
  [N in keyof Table]: Table[N]['graph'] extends G | 'both' ? N : never;
}[keyof Table];

/** The layer, for buffers that may exist once a layer. */
type Index<N extends keyof Table> = Table[N]['scope'] extends 'once' ? [] : [layer: number];

/** What decides which buffers a graph has and how large they are. */
export interface BufferPlan<G extends GraphName> {
  readonly graph: G;
  readonly layers: number;
  /** Backward computes layers again. */
  readonly recompute: boolean;
  readonly f16: boolean;
  readonly portable: boolean;
  readonly sizes: Sizes;
}

/** The buffers for training on stacks of micro-batches. `scratch` comes from `trainingScratch`. */
export function trainingBuffers(
  config: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  scratch: number,
): BufferPlan<'training'> {
  const { width: C, heads: H, layers } = config;
  const { stack = 1, batch, context: T, dropout, recompute = false, precision } = shape;
  const logitsRows = Math.max(...headPasses(config, shape, plan).map((pass) => pass.rows * pass.stack));
  const logits = logitsRows * logitsStride(config);
  const [f16, portable] = [precision === 'f16', precision === 'portable'];
  const sizes = { M: stack * batch * T, C, H, T, logits, passes: dropout > 0 || portable, scratch };
  return { graph: 'training', layers, recompute, f16, portable, sizes };
}

/** The buffers for sampling, one token at a time. `scratch` comes from `samplingScratch`. */
export function samplingBuffers(config: ModelConfig, scratch: number, portable = false): BufferPlan<'sampling'> {
  const { width: C, heads: H, context: T, layers } = config;
  const sizes = { M: 1, C, H, T, logits: logitsStride(config), passes: false, scratch };
  return { graph: 'sampling', layers, recompute: false, f16: false, portable, sizes };
}

interface PlannedBuffer {
  readonly label: string;
  readonly values: number;
  readonly f16: boolean;
  readonly rounded: boolean;
}

function plannedBuffers(plan: BufferPlan<GraphName>): PlannedBuffer[] {
  return (Object.keys(BUFFERS) as (keyof Table)[]).flatMap((name) => {
    const row: BufferRow = BUFFERS[name];
    const values = row.values(plan.sizes);
    if ((row.graph !== plan.graph && row.graph !== 'both') || values === 0) return [];
    const count = row.scope === 'once' ? 1 : plan.layers + (row.scope === 'boundary' ? 1 : 0);
    const labels = new Set(Array.from({ length: count }, (_, i) => labelOf(plan, name, i)));
    const [f16, rounded] = [plan.f16 && row.f16 === true, plan.portable && row.rounded === true];
    return [...labels].map((label) => ({ label, values, f16, rounded }));
  });
}

/** `norm1.3`, or `norm1` where all layers share it. */
function labelOf({ graph, recompute }: BufferPlan<GraphName>, name: keyof Table, layer: number | undefined): string {
  const { scope } = BUFFERS[name];
  const isShared = scope === 'once' || (scope !== 'cache' && graph === 'sampling') || (scope === 'layer' && recompute);
  return isShared ? name : `${name}.${layer}`;
}

/** Bytes of all buffers. */
export function bytesOf(plan: BufferPlan<GraphName>): number {
  return plannedBuffers(plan).reduce((sum, { values, f16 }) => sum + bufferBytes(values, f16), 0);
}

function marked(view: View, rounded: boolean): View {
  return rounded ? { ...view, rounded } : view;
}

/** The buffers of one graph. The compiler knows their names: any other name, or one of the other graph, is an error. */
export class Buffers<G extends GraphName> {
  private constructor(
    private readonly plan: BufferPlan<G>,
    private readonly views: ReadonlyMap<string, View>,
  ) {}

  /** Throws LT_GPU_MEMORY where the adapter lacks memory, or a buffer other than the logits exceeds `windowValues`. */
  static async allocate<G extends GraphName>(gpu: Gpu, plan: BufferPlan<G>, windowValues: number): Promise<Buffers<G>> {
    const views = new Map<string, View>();
    for (const { label, values, f16, rounded } of plannedBuffers(plan)) {
      if (values > windowValues && label !== 'logits')
        throw new LantrainError(
          'LT_GPU_MEMORY',
          `activation ${label} of ${4 * values} bytes exceeds one binding (${4 * windowValues}); lower --micro-batch`,
        );
      views.set(label, marked(await gpu.buffer(label, values, f16), rounded));
    }
    return new Buffers(plan, views);
  }

  /** Views without buffers, for a graph that is only recorded. */
  static onPaper<G extends GraphName>(plan: BufferPlan<G>): Buffers<G> {
    const planned = plannedBuffers(plan);
    const view = ({ values, f16, rounded }: PlannedBuffer) => marked(paperView(values, f16), rounded);
    return new Buffers(plan, new Map(planned.map((buffer) => [buffer.label, view(buffer)])));
  }

  /** The buffer `name`, of `layer` where there may be one a layer. Throws RangeError where the graph has none. */
  readonly view = <N extends BufferName<G>>(name: N, ...[layer]: Index<N>): View => {
    const label = labelOf(this.plan, name, layer);
    const view = this.views.get(label);
    if (view === undefined) throw new RangeError(`the graph has no buffer ${label}`);
    return view;
  };

  /** All buffers by name, `norm1.3` where each layer has one. */
  get all(): ReadonlyMap<string, View> {
    return this.views;
  }

  get scratch(): View | undefined {
    return this.views.get('scratch');
  }
}
