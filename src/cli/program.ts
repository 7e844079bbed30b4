import { Command, InvalidArgumentError } from 'commander';
import { CLUSTER_OPTIONS, DEMO_OPTIONS } from '../../cluster/cluster-options.js';
import { pasteable } from '../node/invocation.js';
import { listenAddress } from '../node/lan-address.js';
import { anyAddress } from '../node/reachable.js';
import { version } from '../node/version.js';
import { settle } from '../train/option-table.js';
import { presetNamed } from '../train/presets.js';
import { addBench } from './bench.js';
import { amount, port, whole } from './numbers.js';
import { addTable, givenOf, rowsFor, runRequestOf, TRAINING_TABLES } from './train-options.js';
import { addChecks } from './usage.js';

/** What a list of workers has room for. */
const LONGEST_NAME = 64;

function workerName(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('has no letter');
  if (text.length > LONGEST_NAME) throw new InvalidArgumentError(`is longer than ${LONGEST_NAME} characters`);
  return text;
}

/**
 * The command line. `finish` is told a command's exit code, `onNote` what was passed over. Commands load what they need
 * when they are called.
 */
export function createProgram(finish: (code: number) => void, onNote: (line: string) => void = () => {}): Command {
  const program = new Command(pasteable([]))
    .description('Train GPT-2-style language models on raw WebGPU: one run, one digest.')
    .version(version())
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .showSuggestionAfterError();

  const train = program.command('train').description('train a model, or go on with a run (--resume)');
  addTable(train, rowsFor('alone', TRAINING_TABLES.train)).action(async () => {
    const { train: run } = await import('../run/session.js');
    const { watch, ...request } = runRequestOf(train);
    finish(await run({ ...request, watch: watch === undefined ? undefined : listenAddress(watch, '--watch') }));
  });

  const coordinator = program
    .command('coordinator')
    .description('own a run that workers on this network compute; it takes the options of train');
  addTable(coordinator, rowsFor('cluster', TRAINING_TABLES.coordinator)).action(async () => {
    const { coordinate } = await import('./coordinator.js');
    const { watch: _, ...request } = runRequestOf(coordinator);
    const { listen, ...cluster } = settle(CLUSTER_OPTIONS, givenOf(coordinator, CLUSTER_OPTIONS));
    const [host, port] = listen === undefined ? [anyAddress()] : listenAddress(listen);
    finish(await coordinate({ ...request, ...cluster, host, port }));
  });

  program
    .command('worker')
    .description('compute for a coordinator; without a URL, one is looked for on this network')
    .argument('[url]', 'the URL that the coordinator printed; its token by LANTRAIN_TOKEN, a file or standard input')
    .option('--token-file <file>', 'a file with the token and no more')
    .option('--name <name>', 'what the coordinator calls this worker (default: host and process)', workerName)
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--patience <seconds>', 'give up after so long without a coordinator; 0: never', amount(), 0)
    .option('--recompute', 'compute layers again in backward: less memory, more time, the same bits')
    .option('--quiet', 'print errors only')
    .option('--drag <ms>', 'sleep after each micro-batch, to try a slow worker', amount())
    .action(async (url, options) => {
      const { work } = await import('./worker.js');
      const { plain, quiet, recompute } = options;
      finish(await work({ ...options, url, plain: !!plain, quiet: !!quiet, recompute: !!recompute }));
    });

  const demo = program
    .command('demo')
    .description('train with a coordinator and workers, all on this machine; it takes the options of train');
  addTable(demo, rowsFor('cluster', TRAINING_TABLES.demo)).action(async () => {
    const { demo: run } = await import('./demo.js');
    const { watch: _, ...request } = runRequestOf(demo);
    finish(await run({ ...request, ...settle(DEMO_OPTIONS, givenOf(demo, DEMO_OPTIONS)) }));
  });

  program
    .command('generate')
    .description("print text of a run's newest checkpoint")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--prompt <text>', 'what the text begins with')
    .option('--tokens <n>', 'tokens to draw', whole(1), 200)
    .option('--temperature <x>', '0: always the likeliest token', amount(), 0.8)
    .option('--top-k <n>', 'draw from the k likeliest tokens; 0: from all', whole(0), 40)
    .option('--seed <n>', 'of the draw', whole(0), 42)
    .option('--adapter <name>', 'the GPU whose name contains this')
    .action(async (options) => {
      const { generate } = await import('./generate.js');
      finish(await generate(options));
    });

  program
    .command('export')
    .description("write a run's newest weights as a Hugging Face GPT-2 folder")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--out <dir>', 'the folder to write; new or empty')
    .action(async (options) => {
      const { exportModel } = await import('./export.js');
      finish(await exportModel(options));
    });

  program
    .command('view')
    .description('serve the page of a run that lies on the disk, for this machine')
    .argument('<dir>', 'the run directory')
    .option('--port <n>', 'the port; 0 takes a free one', port, 0)
    .action(async (dir, options) => {
      const { view } = await import('./view.js');
      finish(await view(dir, options.port));
    });

  program
    .command('report')
    .description("write a run's report.html: curves, samples, workers, configuration, digests")
    .argument('<dir>', 'the run directory')
    .action(async (dir) => {
      const { report } = await import('./report.js');
      finish(await report(dir));
    });

  program
    .command('doctor')
    .description('what this machine can do, and what is wrong if something is')
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--json', 'print one JSON line')
    .option('--tune', 'time the kernels that could compute a preset, and print the table')
    .option('--preset <name>', 'with --tune: the preset (default: tiny)')
    .option('--plan-out <file>', 'with --tune: write the plan of the winners, for train --plan')
    .action(async (options) => {
      if (options.tune) {
        const { doctorTune } = await import('./doctor-tune.js');
        finish(await doctorTune({ ...options, preset: presetNamed(options.preset ?? 'tiny') }));
        return;
      }
      const { doctor } = await import('./doctor.js');
      finish(await doctor(options));
    });

  addBench(program, finish);

  program.addHelpText(
    'after',
    [
      '',
      'For a start:',
      `  ${pasteable(['demo'])}`,
      '      two workers of this machine train a small model on Moby-Dick',
      `  ${pasteable(['train', '--data', 'FILE'])}`,
      '      a model of a text of yours',
      `  ${pasteable(['train', '--help'])}`,
      '      the options of a command, here of train',
    ].join('\n'),
  );
  addChecks(program, onNote);
  return program;
}
