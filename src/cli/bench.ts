import { Command } from 'commander';
import { closest, distance } from 'fastest-levenshtein';
import { LantrainError } from '../errors.js';
import { listenAddress } from '../node/lan-address.js';
import type { PresetName, TrainOptions } from '../train/options.js';
import { whole } from './numbers.js';
import { addTrainOptions, explicitOptions, presetNamed } from './train-options.js';

export interface BenchCommand {
  readonly preset: PresetName;
  readonly explicit: Partial<TrainOptions>;
  /** Timed steps, or repetitions; chosen by time when absent. */
  readonly steps?: number;
  readonly adapter?: string;
  /** `auto`, or a JSON file. */
  readonly plan?: string;
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
  'recompute',
  'precision',
  'clip',
  'seed',
  'adapter',
]);

/** Of `bench train` and `bench kernels`; workers of a cluster get the coordinator's plan. */
const OWN_OPTIONS: ReadonlySet<string> = new Set([...OPTIONS, 'plan', 'stack']);

const BENCHES = {
  train: { description: 'time whole training steps on random tokens', steps: 'timed steps' },
  kernels: { description: 'time every kernel of a training step at its real shapes', steps: 'repetitions' },
} as const;

/** Adds `bench train`, `bench kernels` and `bench cluster`; `finish` is told the exit code. */
export function addBench(program: Command, finish: (code: number) => void): void {
  const names = [...Object.keys(BENCHES), 'cluster'];
  const bench = program
    .command('bench')
    .description(`measure training on this machine: ${names.join(', ')}`)
    .argument('[what]', names.join(', '))
    .action((what?: string) => {
      const wrong = what === undefined ? 'bench what?' : `there is no bench ${what};`;
      const near = what !== undefined && distance(what, closest(what, names)) <= 2;
      const hint = near ? `did you mean ${closest(what, names)}?` : `name one of ${names.join(', ')}`;
      throw new LantrainError('LT_USAGE_OPTION', `${wrong} ${hint}`);
    });
  const trainOptions = addTrainOptions(new Command()).options.filter((o) => OWN_OPTIONS.has(o.attributeName()));
  for (const [name, { description, steps }] of Object.entries(BENCHES)) {
    const command = bench.command(name).description(description);
    for (const option of trainOptions) command.addOption(option);
    command
      .option('--steps <n>', `${steps} (default: what fits in about a minute)`, atLeastOne)
      .option('--json', 'print JSON on stdout, nothing else')
      .action(async (options) => {
        const preset = presetNamed(options.preset ?? 'tiny');
        const { steps: _, ...explicit } = explicitOptions(command);
        const { steps: count, adapter, plan, json } = options;
        const request = { preset, explicit, steps: count, adapter, plan, json };
        if (name === 'train') finish(await (await import('../bench/train.js')).benchTrain(request));
        else finish(await (await import('../bench/kernels.js')).benchKernels(request));
      });
  }
  addBenchCluster(bench, finish);
}

function addBenchCluster(bench: Command, finish: (code: number) => void): void {
  const command = bench.command('cluster').description('time workers alone and together, on this machine or the LAN');
  const names = new Set([...OPTIONS, 'data', 'valRatio']);
  for (const option of addTrainOptions(new Command()).options)
    if (names.has(option.attributeName())) command.addOption(option);
  command
    .option('--workers <list>', 'numbers of workers', workerCounts, [1, 2])
    .option('--steps <n>', 'timed steps of a setting (default: what fits in about 20 seconds)', atLeastOne)
    .option('--skip <n>', 'steps before them', atLeastOne, 3)
    .option('--listen <host:port>', 'measure workers of other machines, which join here; starts none')
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--no-intake', 'leave out how fast this machine takes gradients in')
    .option('--svg <file>', 'draw the steps')
    .option('--json', 'print JSON on stdout, nothing else')
    .action(async (options) => {
      const preset = presetNamed(options.preset ?? 'tiny');
      const { steps: _, ...explicit } = explicitOptions(command);
      const { workers, steps, skip, adapter, json, svg, intake } = options;
      const [host, port] = options.listen === undefined ? [] : listenAddress(options.listen);
      const listen = host === undefined || port === undefined ? undefined : { host, port };
      const plain = options.plain === true;
      const { benchCluster } = await import('../bench/cluster.js');
      const shared = { preset, explicit, steps, adapter, json };
      finish(await benchCluster({ ...shared, workers, skip, listen, plain, svg, intake }));
    });
}

/** `1,2,4`, ascending. */
function workerCounts(text: string): number[] {
  return [...new Set(text.split(',').map(whole(1, 64)))].sort((a, b) => a - b);
}

const atLeastOne = whole(1);
