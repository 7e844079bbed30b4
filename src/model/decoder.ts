import { type Gpu, slice, type View } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { allocateSizes, decoderSizes } from './activations.js';
import type { ParameterArena } from './layout.js';
import { Operations } from './operations.js';
import type { Plan } from './plan.js';
import { logitsStride } from './shape.js';

/**
 * The sampling graph: one token goes in, the logits of the next come out; keys and values of the tokens before are
 * kept. Shares the weights of the training graph and nothing else.
 */
export class Decoder {
  readonly #list = new DispatchList();
  #position = 0;

  private constructor(
    readonly gpu: Gpu,
    readonly weights: ParameterArena,
    private readonly buffers: ReadonlyMap<string, View>,
  ) {}

  static async build(kernels: KernelCache, plan: Plan, weights: ParameterArena): Promise<Decoder> {
    const buffers = await allocateSizes(kernels.gpu, decoderSizes(weights.layout.config, plan), plan);
    const decoder = new Decoder(kernels.gpu, weights, buffers);
    decoder.#add(new Operations(decoder.#list, plan, weights, undefined, undefined, buffers.get('scratch')));
    await decoder.#list.prepare(kernels);
    return decoder;
  }

  /** Forgets all tokens. */
  reset(): void {
    this.#position = 0;
  }

  /** Tokens held, at most the context. */
  get length(): number {
    return this.#position;
  }

  /** Queues one token after those held; throws RangeError when the context is full. */
  push(token: number): void {
    const { context } = this.weights.layout.config;
    if (this.#position >= context) throw new RangeError(`the context of ${context} tokens is full`);
    this.gpu.write(this.#view('token'), Uint32Array.of(token, this.#position++));
    this.#list.submit(this.gpu);
  }

  /** The logits [V] after the last token pushed. */
  async logits(): Promise<Float32Array> {
    const { vocabSize } = this.weights.layout.config;
    return new Float32Array(await this.gpu.read(slice(this.#view('logits'), 0, vocabSize)));
  }

  #view(name: string): View {
    const view = this.buffers.get(name);
    if (view === undefined) throw new RangeError(`the sampling graph has no buffer ${name}`);
    return view;
  }

  #add(op: Operations): void {
    const { config } = this.weights.layout;
    const v = (name: string) => this.#view(name);
    const [norm, stats, qkv, middle, hidden, gelu] = [
      v('norm'),
      v('stats'),
      v('qkv'),
      v('middle'),
      v('hidden'),
      v('gelu'),
    ];
    op.embedToken({ place: v('token'), x: v('x') });
    for (let l = 0; l < config.layers; l++) {
      const h = `h.${l}`;
      op.layerNorm(`${h}.ln_1`, { x: v('x'), y: norm, stats, rows: 1 });
      op.linear(`${h}.attn.c_attn`, { x: norm, y: qkv, rows: 1 });
      op.cachedAttention({ place: v('token'), qkv, cache: v(`cache.${l}`), scores: v('scores'), out: v('attention') });
      op.linear(`${h}.attn.c_proj`, { x: v('attention'), y: middle, rows: 1, residual: v('x') });
      op.layerNorm(`${h}.ln_2`, { x: middle, y: norm, stats, rows: 1 });
      op.linear(`${h}.mlp.c_fc`, { x: norm, y: hidden, rows: 1, gelu });
      op.linear(`${h}.mlp.c_proj`, { x: gelu, y: v('x'), rows: 1, residual: middle });
    }
    op.layerNorm('ln_f', { x: v('x'), y: norm, stats, rows: 1 });
    op.head({ x: norm, logits: v('logits'), rows: 1, stride: logitsStride(config) });
  }
}
