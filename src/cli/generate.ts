import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { RunDirectory } from '../checkpoint/run.js';
import { loadTokenizer } from '../data/tokenizer.js';
import { LantrainError } from '../errors.js';
import { KernelCache } from '../gpu/kernel.js';
import { Decoder } from '../model/decoder.js';
import { ParameterArena, ParameterLayout } from '../model/layout.js';
import { defaultPlan } from '../model/plan.js';
import { openGpu } from '../node/open-gpu.js';
import { loadShaders } from '../node/shaders.js';
import { parseConfig } from '../run/saved-config.js';
import { RunConfigSchema } from '../train/run-config.js';
import { sampleTokens } from '../train/sample.js';
import { deriveKey, Stream } from '../util/random.js';
import { loadingBar } from './loading.js';
import { remarkLine } from './output.js';

export interface GenerateCommand {
  readonly run: string;
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly seed: number;
  readonly adapter?: string;
}

/** A run's newest checkpoint that is whole, its digest checked. Throws LT_RUN_MISSING when there is none yet. */
export async function newestCheckpoint(run: RunDirectory): Promise<Checkpoint> {
  const { found, warnings } = await run.latest(loadingBar('checking the checkpoint'));
  for (const warning of warnings) remarkLine(warning);
  if (found === undefined) throw new LantrainError('LT_RUN_MISSING', `${run.path} has no checkpoint yet`);
  return found;
}

/** Prints text of a run's newest checkpoint as it is drawn. */
export async function generate(command: GenerateCommand): Promise<number> {
  const run = await RunDirectory.open(command.run, 'read');
  // Old plans do not matter here: sampling takes this adapter's own.
  const config = parseConfig(run, RunConfigSchema.omit({ plan: true }));
  const tokenizer = await loadTokenizer(config.options.tokenizer);
  const prompt = tokenizer.encode(command.prompt);
  if (prompt.length === 0)
    throw new LantrainError('LT_USAGE_OPTION', '--prompt is empty; give it at least one character');
  const beyond = prompt.find((id) => id >= config.model.vocabSize);
  if (beyond !== undefined)
    throw new LantrainError(
      'LT_DATA_TOKEN',
      `the prompt has token ${beyond}, but ${join(command.run, 'config.json')} has a vocabulary of ${config.model.vocabSize}`,
    );
  const checkpoint = await newestCheckpoint(run);
  const gpu = await openGpu(command.adapter);
  const plan = defaultPlan(gpu.adapter);
  const weights = await ParameterArena.allocate(gpu, new ParameterLayout(config.model, plan), 'weights');
  for (const { name } of weights.layout.parameters) weights.write(gpu, name, checkpoint.read('weights', name));
  checkpoint.close();
  const decoder = await Decoder.build(new KernelCache(gpu, loadShaders()), plan, weights);
  const text = tokenizer.streamDecoder();
  process.stdout.write(command.prompt);
  const sampling = {
    count: command.tokens,
    temperature: command.temperature,
    topK: command.topK,
    key: deriveKey(command.seed, Stream.sampling),
  };
  for await (const token of sampleTokens(decoder, prompt, sampling)) process.stdout.write(text.push(token));
  process.stdout.write(`${text.end()}\n`);
  return 0;
}
