import { z } from 'zod';

export interface GenerateOptions {
  /** The run's directory. */
  readonly run: string;
  /** What the text begins with; at least one character. */
  readonly prompt: string;
  /** Tokens to draw. */
  readonly tokens?: number;
  /** Divides the logits; 0 always takes the likeliest token. */
  readonly temperature?: number;
  /** Draws from so many of the likeliest tokens; 0: from all. */
  readonly topK?: number;
  /** Of the draw: the same seed gives the same text. */
  readonly seed?: number;
  /** The GPU whose name contains this. */
  readonly adapter?: string;
}

/** What holds where nothing else is said. */
export const GENERATE_DEFAULTS = { tokens: 200, temperature: 0.8, topK: 40, seed: 42 } as const;

const count = (least: number, otherwise: number) => z.number().int().min(least).default(otherwise);
/** Of `GenerateOptions`, with what holds for those that are left out. */
export const GenerateSchema = z.strictObject({
  run: z.string().min(1),
  prompt: z.string().min(1),
  tokens: count(1, GENERATE_DEFAULTS.tokens),
  temperature: z.number().min(0).default(GENERATE_DEFAULTS.temperature),
  topK: count(0, GENERATE_DEFAULTS.topK),
  seed: count(0, GENERATE_DEFAULTS.seed),
  adapter: z.string().min(1).optional(),
});
