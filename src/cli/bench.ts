import type { Command } from 'commander';
import { closest, distance } from 'fastest-levenshtein';
import type { ClusterBenchOutput } from '../bench/cluster.js';
import type { BenchReport } from '../bench/request.js';
import { LantrainError } from '../errors.js';
import { listenAddress } from '../node/lan-address.js';
import { RUN_OPTIONS } from '../run/run-options.js';
import type { OptionRow, OptionTable } from '../train/option-table.js';
import { TRAIN_OPTIONS } from '../train/options.js';
import { DEFAULT_PRESET } from '../train/presets.js';
import { joinLines } from './joining.js';
import { loadingBar } from './loading.js';
import { whole } from './numbers.js';
import { printLine, remarkLine } from './output.js';
import { addTable, givenOf, TRAINING_TABLES } from './train-options.js';

/** The options of `train` that affect speed and memory. */
const OPTIONS = rowsOf(TRAINING_TABLES.train, ({ affectsSpeed }) => affectsSpeed === true);

/** Without options that workers of a cluster choose themselves or get from the coordinator. */
const CLUSTER_BENCH_OPTIONS = {
  ...rowsOf(OPTIONS, ({ who }) => who !== 'alone', 'plan'),
  data: TRAIN_OPTIONS.data,
  valRatio: TRAIN_OPTIONS.valRatio,
};

function rowsOf(table: OptionTable, wanted: (row: OptionRow) => boolean, without?: string): OptionTable {
  return Object.fromEntries(Object.entries(table).filter(([name, row]) => wanted(row) && name !== without));
}

const BENCHES = {
  train: { description: 'time whole training steps on random tokens', steps: 'timed steps' },
  kernels: { description: 'time every kernel of a training step at its real shapes', steps: 'repetitions' },
} as const;

/** Adds `bench train`, `bench kernels` and `bench cluster`. `finish` is called with the exit code. */
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
  for (const [name, { description, steps }] of Object.entries(BENCHES)) {
    const command = addTable(bench.command(name).description(description), OPTIONS)
      .optionsGroup('Benchmark:')
      .option('--steps <n>', `${steps} (default: what fits in about a minute)`, atLeastOne)
      .option('--json', 'print JSON on stdout, nothing else')
      .action(async ({ steps: count, json }: { steps?: number; json?: boolean }) => {
        const request = { ...requestOf(command), plan: givenOf(command, RUN_OPTIONS).plan, steps: count };
        const report =
          name === 'train'
            ? await (await import('../bench/train.js')).benchTrain(request, loadingBar)
            : await (await import('../bench/kernels.js')).benchKernels(request, loadingBar);
        print(report, json === true);
        finish(0);
      });
  }
  addBenchCluster(bench, finish);
}

function print({ events, lines }: BenchReport, asJson: boolean): void {
  const text = asJson ? events.map((event) => JSON.stringify(event)) : lines;
  process.stdout.write(`${text.join('\n')}\n`);
}

/** The options of `train` that every benchmark takes. Its own `--steps` has another meaning. */
function requestOf(command: Command) {
  const { preset = DEFAULT_PRESET, adapter } = givenOf(command, RUN_OPTIONS);
  const { steps: _, ...explicit } = givenOf(command, TRAIN_OPTIONS);
  return { preset, adapter, explicit };
}

interface ClusterFlags {
  readonly workers: readonly number[];
  readonly steps?: number;
  readonly skip: number;
  readonly listen?: string;
  readonly plain?: boolean;
  readonly intake: boolean;
  readonly svg?: string;
  readonly json?: boolean;
}

function addBenchCluster(bench: Command, finish: (code: number) => void): void {
  const command = bench.command('cluster').description('time workers alone and together, on this machine or the LAN');
  addTable(command, CLUSTER_BENCH_OPTIONS)
    .optionsGroup('Benchmark:')
    .option('--workers <list>', 'numbers of workers', workerCounts, [1, 2])
    .option('--steps <n>', 'timed steps of a setting (default: what fits in about 20 seconds)', atLeastOne)
    .option('--skip <n>', 'steps before them', atLeastOne, 3)
    .option('--listen <host:port>', 'measure workers of other machines, which join here; starts none')
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--no-intake', 'leave out how fast this machine takes gradients in')
    .option('--svg <file>', 'draw the steps')
    .option('--json', 'print JSON on stdout, nothing else')
    .action(async ({ json, plain = false, listen: address, ...own }: ClusterFlags) => {
      const [host, port] = address === undefined ? [] : listenAddress(address);
      const listen = host === undefined || port === undefined ? undefined : { host, port };
      const { benchCluster } = await import('../bench/cluster.js');
      const stop = () => process.exit(130);
      process.on('SIGINT', stop).on('SIGTERM', stop);
      try {
        await benchCluster({ ...requestOf(command), ...own, plain, listen }, clusterOutput(json === true, plain));
      } finally {
        process.off('SIGINT', stop).off('SIGTERM', stop);
      }
      finish(0);
    });
}

function clusterOutput(asJson: boolean, plain: boolean): ClusterBenchOutput {
  return {
    event: (event) => {
      if (asJson) process.stdout.write(`${JSON.stringify(event)}\n`);
    },
    row: (text) => {
      if (!asJson) printLine(text);
    },
    line: asJson ? remarkLine : printLine,
    progress: (label) => (process.stderr.isTTY ? loadingBar(label) : () => {}),
    joinLines: (url, host) => joinLines(url, host, plain),
  };
}

/** Parses `1,2,4`. The result is ascending. */
function workerCounts(text: string): number[] {
  return [...new Set(text.split(',').map(whole(1, 64)))].sort((a, b) => a - b);
}

const atLeastOne = whole(1);
