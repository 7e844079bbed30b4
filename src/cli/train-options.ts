import { type Command, InvalidArgumentError, Option } from 'commander';
import { closest } from 'fastest-levenshtein';
import { LantrainError } from '../errors.js';
import { BOUNDS } from '../model/config.js';
import { INITIALIZATIONS } from '../model/initialize.js';
import { PRECISIONS } from '../model/shape.js';
import { PRESETS, type PresetName, type TrainOptions, TrainOptionsSchema } from '../train/options.js';
import { SCHEDULES } from '../train/schedule.js';
import { validate } from '../util/validate.js';
import { decimal, whole } from './numbers.js';

type Name = keyof TrainOptions;

/** In a run's configuration 0 stands for epochs. */
const atLeastOne = whole(1, BOUNDS.steps);

/** Reads a number and checks it by the schema of option `name`. */
function number(name: Name): (text: string) => number {
  return (text) => {
    const parsed = validate<unknown>(TrainOptionsSchema.shape[name], decimal(text));
    if (!parsed.ok) throw new InvalidArgumentError(parsed.words);
    return parsed.data as number;
  };
}

function text(name: Name): (text: string) => string {
  return (value) => {
    const parsed = validate<unknown>(TrainOptionsSchema.shape[name], value);
    if (!parsed.ok) throw new InvalidArgumentError(parsed.words);
    return value;
  };
}

/**
 * Adds every option of a training run to a command. None has a default here: presets and BASE_OPTIONS have them. A
 * `cluster` lacks what each worker chooses for itself, and what only a process that computes alone can tell.
 */
export function addTrainOptions(command: Command, who: 'alone' | 'cluster' = 'alone'): Command {
  const group = (heading: string) => command.optionsGroup(heading);
  const choice = (flags: string, description: string, choices: readonly string[]) =>
    command.addOption(new Option(flags, description).choices(choices));
  group('Run:')
    .option('--preset <name>', `a shape with its settings: ${Object.keys(PRESETS).join(', ')} (default: tiny)`)
    .option('--out <dir>', 'the run directory (default: runs/<preset>-<n>)')
    .option('--resume <dir>', 'go on with a run, in its directory, bit for bit')
    .option('--epochs <n>', 'passes over the training text', number('epochs'))
    .option('--steps <n>', 'updates, instead of epochs', atLeastOne)
    .option('--seed <n>', 'of weights, order, dropout and samples', number('seed'));
  group('Model (default: the preset):')
    .option('--layers <n>', 'transformer blocks', number('layers'))
    .option('--heads <n>', 'attention heads a block', number('heads'))
    .option('--width <n>', 'channels', number('width'))
    .option('--context <n>', 'tokens of a sequence', number('context'))
    .option('--tie', 'the head shares the token embedding')
    .option('--no-tie', 'the head has a matrix of its own')
    .option('--qkv-bias', 'query, key and value have a bias')
    .option('--no-qkv-bias', 'query, key and value have none');
  choice('--weights <how>', 'how fresh weights are drawn', INITIALIZATIONS);
  command.option('--init <dir>', 'begin with the weights and the shape of a Hugging Face GPT-2 folder');
  group('Data:').option(
    '--data <source>',
    'a text file, a folder of them, token ids (.bin, .npy), moby-dick or verdict',
    text('data'),
  );
  choice('--tokenizer <name>', 'how text becomes tokens', ['gpt2', 'bytes']);
  command
    .option('--batch <n>', 'sequences of a step', number('batch'))
    .option('--micro-batch <n>', 'sequences of a share of work; divides the batch', number('microBatch'))
    .option('--stride <n>', 'tokens from one sequence to the next (default: the context)', number('stride'))
    .option('--val-ratio <share>', 'the part at the end kept for validation; 0: none', number('valRatio'))
    .option('--shuffle', 'another order in every epoch, from the seed')
    .option('--no-shuffle', 'in order');
  group('Optimizer (default: the preset):')
    .option('--lr <rate>', 'the (peak) learning rate', number('lr'))
    .option('--weight-decay <x>', 'decoupled weight decay', number('weightDecay'));
  choice('--decay <what>', 'what decays', ['all', 'matrices']);
  command
    .option('--beta1 <x>', "AdamW's first decay rate", number('beta1'))
    .option('--beta2 <x>', "AdamW's second decay rate", number('beta2'))
    .option('--eps <x>', "AdamW's epsilon", number('eps'));
  choice('--schedule <name>', 'how the learning rate goes on after the warm-up', SCHEDULES);
  command
    .option('--warmup <n>', 'updates over which the learning rate rises', number('warmup'))
    .option('--clip <norm>', 'largest norm of the gradient; 0: off', number('clip'))
    .option('--dropout <p>', 'probability that a value is dropped', number('dropout'));
  group('Computing:')
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--recompute', 'compute layers again in backward: less memory, more time, the same bits')
    .option('--no-recompute', 'keep them, where a resumed run did not');
  if (who === 'alone')
    command.option(
      '--stack <n>',
      'micro-batches computed at once, the same bits (default: as many as pay)',
      number('stack'),
    );
  choice('--precision <type>', 'f16: products and attention read float16, sums stay float32', PRECISIONS);
  command
    .option('--plan <file>', 'kernel plan: a JSON file, or auto for the one made for this adapter')
    .option('--tune', "time kernels first and take the fastest that are right, even with other bits than the table's")
    .option('--no-tune', 'take the kernels of the table as they are');
  group('Reports:')
    .option('--eval-every <n>', 'updates between evaluations; 0: none', number('evalEvery'))
    .option('--eval-batches <n>', 'batches of an evaluation', number('evalBatches'))
    .option('--sample-every <n>', 'updates between samples (0: after each epoch)', number('sampleEvery'))
    .option('--prompt <text>', 'what samples begin with', text('prompt'))
    .option('--sample-tokens <n>', 'tokens of a sample; 0: no samples', number('sampleTokens'))
    .option('--temperature <x>', 'of samples; 0: always the likeliest token', number('temperature'))
    .option('--top-k <n>', 'sample from the k likeliest tokens; 0: from all', number('topK'))
    .option('--checkpoint-every <n>', 'updates (500) or seconds (600s) between checkpoints', text('checkpointEvery'))
    .option('--json', 'print metrics events as JSON lines on stdout, nothing else');
  if (who === 'alone') command.option('--profile', 'print the time of every kernel at the end');
  return command;
}

/** The options of `TrainOptions` that were given on the command line. */
export function explicitOptions(command: Command): Partial<TrainOptions> {
  const given: Record<string, unknown> = {};
  for (const name of Object.keys(TrainOptionsSchema.shape))
    if (command.getOptionValueSource(name) === 'cli') given[name] = command.getOptionValue(name);
  return given as Partial<TrainOptions>;
}

/** Throws LT_USAGE_PRESET with the nearest name unless `name` is a preset. */
export function presetNamed(name: string): PresetName {
  if (Object.hasOwn(PRESETS, name)) return name as PresetName;
  const names = Object.keys(PRESETS);
  throw new LantrainError(
    'LT_USAGE_PRESET',
    `there is no preset ${name}; did you mean ${closest(name, names)}? (presets: ${names.join(', ')})`,
  );
}
