import type { ModelConfig } from './config.js';

/** Decides how a tensor is initialized, and whether `--decay matrices` decays it. */
export type ParameterKind = 'embedding' | 'matrix' | 'bias' | 'gain';

export interface Parameter {
  /** The Hugging Face name without the `transformer.` prefix, such as `h.0.attn.c_attn.weight`. */
  readonly name: string;
  /** Matrices are stored (in, out); the embeddings and the untied head (V, C). */
  readonly shape: readonly number[];
  readonly kind: ParameterKind;
  /** Inputs of one output. PyTorch initializes Linear within 1 / sqrt(fanIn). */
  readonly fanIn: number;
  /** Whether it projects onto the residual stream: GPT-2's initialization scales it by 1 / sqrt(2 layers). */
  readonly residual: boolean;
  /** Whether the next parameter must follow it in the same buffer, because one dispatch sums the gradients of both. */
  readonly beforeNext: boolean;
  readonly size: number;
}

/** Every parameter of the model, in the order of the digest, of checkpoints and of the flat array. */
export function parameters(config: ModelConfig): Parameter[] {
  const { vocabSize: V, context: T, width: C } = config;
  const list: Parameter[] = [];
  const add = (name: string, shape: number[], kind: ParameterKind, more: Partial<Parameter> = {}) =>
    list.push({
      name,
      shape,
      kind,
      fanIn: 0,
      residual: false,
      beforeNext: false,
      size: shape.reduce((a, b) => a * b, 1),
      ...more,
    });
  const linear = (name: string, input: number, output: number, bias: boolean, residual = false) => {
    add(`${name}.weight`, [input, output], 'matrix', { fanIn: input, residual });
    if (bias) add(`${name}.bias`, [output], 'bias', { fanIn: input });
  };
  const norm = (name: string) => {
    add(`${name}.weight`, [C], 'gain', { beforeNext: true });
    add(`${name}.bias`, [C], 'bias');
  };
  add('wte.weight', [V, C], 'embedding');
  add('wpe.weight', [T, C], 'embedding');
  for (let layer = 0; layer < config.layers; layer++) {
    const h = `h.${layer}`;
    norm(`${h}.ln_1`);
    linear(`${h}.attn.c_attn`, C, 3 * C, config.qkvBias);
    linear(`${h}.attn.c_proj`, C, C, true, true);
    norm(`${h}.ln_2`);
    linear(`${h}.mlp.c_fc`, C, 4 * C, true);
    linear(`${h}.mlp.c_proj`, 4 * C, C, true, true);
  }
  norm('ln_f');
  if (!config.tie) add('lm_head.weight', [V, C], 'matrix', { fanIn: C });
  return list;
}

export function parameterCount(config: ModelConfig): number {
  return parameters(config).reduce((sum, p) => sum + p.size, 0);
}
