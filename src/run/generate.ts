import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { RunDirectory } from '../checkpoint/run.js';
import { loadTokenizer } from '../data/tokenizer.js';
import { LantrainError } from '../errors.js';
import { KernelCache } from '../gpu/kernel.js';
import { Decoder } from '../model/decoder.js';
import { ParameterArena, ParameterLayout } from '../model/layout.js';
import { defaultPlan } from '../model/plan.js';
import type { Precision } from '../model/precision.js';
import { openGpu } from '../node/open-gpu.js';
import { loadShaders } from '../node/shaders.js';
import { RunConfigSchema } from '../train/run-config.js';
import { sampleTokens } from '../train/sample.js';
import { deriveKey, Stream } from '../util/random.js';
import { validate } from '../util/validate.js';
import { type GenerateOptions, GenerateSchema } from './generate-options.js';
import { newestCheckpoint } from './newest-checkpoint.js';
import type { ReadHooks } from './read-hooks.js';
import { parseConfig } from './saved-config.js';

/**
 * Yields the text that a run's newest checkpoint writes after a prompt, without the prompt, piece by piece as tokens
 * are drawn. Each piece is whole characters. Ends early, without an error, when `hooks.signal` is aborted or the caller
 * leaves the loop; the adapter's memory is then free.
 *
 * Throws, at the first piece: LT_USAGE_OPTION for a wrong option; LT_RUN_MISSING where there is no run or no
 * checkpoint; LT_CHECKPOINT_CORRUPT where none is whole; LT_DATA_TOKEN where the model lacks a token of the prompt;
 * LT_GPU_NONE without an adapter; LT_GPU_MEMORY where the model does not fit.
 */
export async function* generate(options: GenerateOptions, hooks: ReadHooks = {}): AsyncGenerator<string, void, void> {
  const checked = validate(GenerateSchema, options);
  if (!checked.ok) throw new LantrainError('LT_USAGE_OPTION', `generate: ${checked.wrong}`);
  const { run: path, prompt: text, tokens, temperature, topK, seed, adapter } = checked.data;
  const run = await RunDirectory.open(path, 'read');
  // The run's plan is not read: sampling uses this adapter's own.
  const config = parseConfig(run, RunConfigSchema.omit({ plan: true }));
  const tokenizer = await loadTokenizer(config.options.tokenizer);
  const prompt = tokenizer.encode(text);
  const beyond = prompt.find((id) => id >= config.model.vocabSize);
  if (beyond !== undefined)
    throw new LantrainError(
      'LT_DATA_TOKEN',
      `the prompt has token ${beyond}, but ${join(path, 'config.json')} has a vocabulary of ${config.model.vocabSize}`,
    );
  const checkpoint = await newestCheckpoint(run, hooks);
  const decoder = await openDecoder(checkpoint, config.options.precision, adapter).finally(() => checkpoint.close());
  const { signal } = hooks;
  try {
    const stream = tokenizer.streamDecoder();
    const key = deriveKey(seed, Stream.sampling);
    for await (const token of sampleTokens(decoder, prompt, { count: tokens, temperature, topK, key })) {
      if (signal?.aborted) return;
      const piece = stream.push(token);
      if (piece !== '') yield piece;
      if (signal?.aborted) return;
    }
    const rest = stream.end();
    if (rest !== '') yield rest;
  } finally {
    decoder.gpu.device.destroy();
  }
}

/** A decoder with a checkpoint's weights, on a device of its own. */
async function openDecoder(
  checkpoint: Checkpoint,
  precision: Precision,
  adapter: string | undefined,
): Promise<Decoder> {
  const gpu = await openGpu(adapter);
  try {
    const plan = defaultPlan(gpu.adapter);
    const weights = await ParameterArena.allocate(gpu, new ParameterLayout(checkpoint.config, plan), 'weights');
    for (const { name } of weights.layout.parameters) weights.write(gpu, name, checkpoint.read('weights', name));
    return await Decoder.build(new KernelCache(gpu, loadShaders()), plan, weights, precision);
  } catch (error) {
    gpu.device.destroy();
    throw error;
  }
}
