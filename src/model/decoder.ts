import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { slice } from '../gpu/view.js';
import { Buffers, samplingBuffers } from './buffers.js';
import { Graph, launchInto } from './graph.js';
import type { ParameterArena } from './layout.js';
import type { Plan } from './plan.js';
import type { Precision } from './precision.js';
import { samplingScratch } from './products.js';
import { decode } from './spine.js';

/**
 * The sampling graph. It takes one token at a time, keeps the keys and values of all tokens so far, and gives the logits of
 * the next token. It shares nothing with the training graph but the weights.
 */
export class Decoder {
  readonly #list = new DispatchList();
  #position = 0;

  private constructor(
    readonly gpu: Gpu,
    readonly weights: ParameterArena,
    /** The run's, or undefined. */
    readonly precision: Precision | undefined,
    private readonly buffers: Buffers<'sampling'>,
  ) {}

  /** `precision`: `portable`, or float32 as the adapter computes it. */
  static async build(
    kernels: KernelCache,
    plan: Plan,
    weights: ParameterArena,
    precision?: Precision,
  ): Promise<Decoder> {
    const { config } = weights.layout;
    const portable = precision === 'portable';
    const wanted = samplingBuffers(config, samplingScratch(config, plan, portable), portable);
    const buffers = await Buffers.allocate(kernels.gpu, wanted, plan.windowValues);
    const decoder = new Decoder(kernels.gpu, weights, precision, buffers);
    const launches = launchInto(decoder.#list, plan, portable, buffers.scratch);
    decode(new Graph(launches, { plan, weights }), buffers);
    await decoder.#list.prepare(kernels);
    return decoder;
  }

  /** Frees all buffers. */
  release(): void {
    for (const view of this.buffers.all.values()) this.gpu.release(view);
  }

  /** Forgets all tokens. */
  reset(): void {
    this.#position = 0;
  }

  /** The number of tokens so far, at most the context. */
  get length(): number {
    return this.#position;
  }

  /** Queues one more token. Throws RangeError when the context is full. */
  push(token: number): void {
    const { context } = this.weights.layout.config;
    if (this.#position >= context) throw new RangeError(`the context of ${context} tokens is full`);
    this.gpu.write(this.buffers.view('token'), Uint32Array.of(token, this.#position++));
    this.#list.submit(this.gpu);
  }

  /** The logits [V] after the last token. */
  async logits(): Promise<Float32Array> {
    const { vocabSize } = this.weights.layout.config;
    return new Float32Array(await this.gpu.read(slice(this.buffers.view('logits'), 0, vocabSize)));
  }
}
