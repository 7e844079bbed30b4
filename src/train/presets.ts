import { closest } from 'fastest-levenshtein';
import { LantrainError } from '../errors.js';
import type { TrainOptions } from './options.js';

/** Shapes of OpenAI's GPT-2 with settings of GPT-3's paper (Brown et al. 2020, table 2.1). */
const gpt2 = (layers: number, heads: number, width: number, lr: number): Partial<TrainOptions> => ({
  layers,
  heads,
  width,
  context: 1024,
  tokenizer: 'gpt2',
  batch: 8,
  microBatch: 1,
  lr,
  beta2: 0.95,
  decay: 'matrices',
  schedule: 'cosine',
  warmup: 100,
  clip: 1,
  evalEvery: 100,
});

/** Presets by name: what differs from the options' defaults. */
export const PRESETS = {
  // Found by trying: of all settings tried, these take the fewest tokens to come below 2.2 nats a byte of Moby-Dick's
  // validation part.
  tiny: {
    tie: false,
    weights: 'pytorch',
    tokenizer: 'bytes',
    steps: 360,
    batch: 8,
    microBatch: 2,
    lr: 3e-3,
    beta2: 0.99,
    warmup: 20,
    clip: 1,
    dropout: 0,
    evalEvery: 90,
    sampleEvery: 180,
    prompt: 'The whale ',
    sampleTokens: 120,
    temperature: 0.7,
    topK: 20,
  },
  verdict: {
    layers: 12,
    heads: 12,
    width: 768,
    context: 256,
    tie: false,
    qkvBias: false,
    weights: 'pytorch',
    data: 'verdict',
    tokenizer: 'gpt2',
    epochs: 10,
    batch: 2,
    microBatch: 1,
    stride: 256,
    evalEvery: 5,
  },
  gpt2: gpt2(12, 12, 768, 6e-4),
  'gpt2-medium': gpt2(24, 16, 1024, 3e-4),
  'gpt2-large': gpt2(36, 20, 1280, 2.5e-4),
  'gpt2-xl': gpt2(48, 25, 1600, 2e-4),
} as const satisfies Record<string, Partial<TrainOptions>>;

export type PresetName = keyof typeof PRESETS;
export const PRESET_NAMES = Object.keys(PRESETS) as PresetName[];

/** The preset of a new run that names none. */
export const DEFAULT_PRESET: PresetName = 'tiny';

/** `name` as a preset's name. Throws LT_USAGE_PRESET, with the nearest name, if it is none. */
export function presetNamed(name: string): PresetName {
  if (Object.hasOwn(PRESETS, name)) return name as PresetName;
  throw new LantrainError(
    'LT_USAGE_PRESET',
    `there is no preset ${name}; did you mean ${closest(name, PRESET_NAMES)}? (presets: ${PRESET_NAMES.join(', ')})`,
  );
}
