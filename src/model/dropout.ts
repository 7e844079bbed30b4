import type { View } from '../gpu/view.js';
import { deriveKey, Stream } from '../util/random.js';
import type { StepContext } from './batch.js';
import type { ModelConfig } from './config.js';

/*
 * The keys of dropout: a uniform DropoutKey (shaders/random.wgsl) for every site of the graph. Keys are 256 bytes apart,
 * because each is bound separately.
 */

/** Numbers of dropout sites: the embedding; in each layer attention, its projection and the feed-forward's projection. */
export const Site = {
  embedding: 0,
  attention: (layer: number) => 1 + 3 * layer,
  attentionProjection: (layer: number) => 2 + 3 * layer,
  feedForward: (layer: number) => 3 + 3 * layer,
  count: (layers: number) => 1 + 3 * layers,
} as const;

const KEY_BYTES = 256;

/** Bytes of the keys of all sites. */
export function keysBytes({ layers }: ModelConfig): number {
  return KEY_BYTES * Site.count(layers);
}

/** The key of `site` among `keys`. */
export function keyOf(keys: View, site: number): View {
  return { buffer: keys.buffer, offset: site * KEY_BYTES, size: 32 };
}

/** The keys of all sites in one step, for sequences from slot `firstSlot` of the global batch on. `dropout`: probability. */
export function dropoutKeys(
  config: ModelConfig,
  dropout: number,
  firstSlot: number,
  context: StepContext,
): Uint32Array {
  const words = new Uint32Array(keysBytes(config) / 4);
  const floats = new Float32Array(words.buffer);
  for (let site = 0; site < Site.count(config.layers); site++) {
    const at = (site * KEY_BYTES) / 4;
    const [k0, k1] = deriveKey(context.seed, Stream.dropout, context.step, site);
    words.set([k0, k1, firstSlot, Math.round(dropout * 2 ** 32)], at);
    floats[at + 4] = 1 / (1 - dropout);
  }
  return words;
}
