import { Command, InvalidArgumentError } from 'commander';
import { closest } from 'fastest-levenshtein';
import { LantrainError } from '../errors.js';
import type { PresetName, TrainOptions } from '../train/options.js';
import { addTrainOptions, explicitOptions, presetNamed } from './train-options.js';

export interface BenchCommand {
  readonly preset: PresetName;
  readonly explicit: Partial<TrainOptions>;
  /** Timed steps, or repetitions; chosen by time when absent. */
  readonly steps?: number;
  readonly adapter?: string;
  readonly json?: boolean;
}

/** The options of `train` that speed and memory depend on. */
const OPTIONS: ReadonlySet<string> = new Set([
  'preset',
  'layers',
  'heads',
  'width',
  'context',
  'tie',
  'qkvBias',
  'tokenizer',
  'batch',
  'microBatch',
  'dropout',
  'clip',
  'seed',
  'adapter',
]);

const BENCHES = {
  train: { description: 'time whole training steps on random tokens', steps: 'timed steps' },
  kernels: { description: 'time every kernel of a training step at its real shapes', steps: 'repetitions' },
} as const;

/** Adds `bench train` and `bench kernels`; `finish` is told the exit code. */
export function addBench(program: Command, finish: (code: number) => void): void {
  const names = Object.keys(BENCHES);
  const bench = program
    .command('bench')
    .description(`measure training on this machine: ${names.join(', ')}`)
    .argument('[what]', names.join(', '))
    .action((what?: string) => {
      const hint = what === undefined ? `name one of ${names.join(', ')}` : `did you mean ${closest(what, names)}?`;
      throw new LantrainError('LT_USAGE_OPTION', `there is no bench ${what ?? 'without a name'}; ${hint}`);
    });
  const trainOptions = addTrainOptions(new Command()).options.filter((o) => OPTIONS.has(o.attributeName()));
  for (const [name, { description, steps }] of Object.entries(BENCHES)) {
    const command = bench.command(name).description(description);
    for (const option of trainOptions) command.addOption(option);
    command
      .option('--steps <n>', `${steps} (default: what fits in about a minute)`, atLeastOne)
      .option('--json', 'print JSON on stdout, nothing else')
      .action(async (options) => {
        const preset = presetNamed(options.preset ?? 'tiny');
        const { steps: _, ...explicit } = explicitOptions(command);
        const request = { preset, explicit, steps: options.steps, adapter: options.adapter, json: options.json };
        if (name === 'train') finish(await (await import('./bench-train.js')).benchTrain(request));
        else finish(await (await import('./bench-kernels.js')).benchKernels(request));
      });
  }
}

function atLeastOne(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('must be a whole number of at least 1');
  return value;
}
