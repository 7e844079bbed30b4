import { z } from 'zod';

export interface GenerateOptions {
  /** The run's folder. */
  readonly run: string;
  /** The beginning of the text, at least one character. It is not part of the output. */
  readonly prompt: string;
  /** Number of tokens to draw. Default 200. */
  readonly tokens?: number;
  /** Divides the logits; 0 always takes the likeliest token. Default 0.8. */
  readonly temperature?: number;
  /** Draws from this many of the likeliest tokens; 0: from all. Default 40. */
  readonly topK?: number;
  /** Seed of the draw: the same seed gives the same text on the same adapter. Default 42. */
  readonly seed?: number;
  /** Takes the first adapter whose name contains this text. Default: the system's choice. */
  readonly adapter?: string;
}

/** Defaults of `GenerateOptions`. */
export const GENERATE_DEFAULTS = { tokens: 200, temperature: 0.8, topK: 40, seed: 42 } as const;

const count = (least: number, otherwise: number) => z.number().int().min(least).default(otherwise);
/** Checks `GenerateOptions` and fills in the defaults. */
export const GenerateSchema = z.strictObject({
  run: z.string().min(1),
  prompt: z.string().min(1),
  tokens: count(1, GENERATE_DEFAULTS.tokens),
  temperature: z.number().min(0).default(GENERATE_DEFAULTS.temperature),
  topK: count(0, GENERATE_DEFAULTS.topK),
  seed: count(0, GENERATE_DEFAULTS.seed),
  adapter: z.string().min(1).optional(),
});
