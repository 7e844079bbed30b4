import { Command, InvalidArgumentError } from 'commander';
import { DEFAULT_LIMITS } from '../../cluster/transport/limits.js';
import { pasteable } from '../node/invocation.js';
import { version } from '../node/version.js';
import { addBench } from './bench.js';
import { amount, port, whole } from './numbers.js';
import { addTrainOptions, explicitOptions, presetNamed } from './train-options.js';
import { addChecks } from './usage.js';

/** The most workers that `demo` starts. */
const MOST_LOCAL_WORKERS = 64;
/** What a list of workers has room for. */
const LONGEST_NAME = 64;

function workerName(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('has no letter');
  if (text.length > LONGEST_NAME) throw new InvalidArgumentError(`is longer than ${LONGEST_NAME} characters`);
  return text;
}

/** What `train` and its like are asked for, as the library takes it. */
function trainRequest(options: Record<string, never>, command: Command) {
  const { preset, init, out, resume, adapter, plan, tune, profile } = options;
  const named = preset === undefined ? undefined : presetNamed(preset);
  return { ...explicitOptions(command), preset: named, init, out, resume, adapter, plan, tune, profile };
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
  addTrainOptions(train, 'alone')
    .option('--watch [host:port]', 'serve a page that shows the run (default: 127.0.0.1, a free port)')
    .action(async (options, command: Command) => {
      const { trainCommand } = await import('./train.js');
      finish(await trainCommand({ ...trainRequest(options, command), watch: options.watch }, !!options.json));
    });

  const coordinator = program
    .command('coordinator')
    .description('own a run that workers on this network compute; it takes the options of train')
    .optionsGroup('Workers:')
    .option(
      '--listen <host:port>',
      'where workers join; port 0 takes a free one (default: every address, port 7070 or the next free one)',
    )
    .option(
      '--min-workers <n>',
      'workers that must be there before the first step',
      whole(1, DEFAULT_LIMITS.connections),
      1,
    )
    .option('--exact', "refuse workers that compute other bits than this machine's adapter")
    .option('--audit <share>', 'share of what workers send that is computed again to check it, 0 to 1', amount(0, 1), 0)
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--cert <file>', 'your own certificate, PEM; needs --key')
    .option('--key <file>', 'its key, PEM, not encrypted');
  addTrainOptions(coordinator, 'cluster').action(async (options, command: Command) => {
    const { coordinatorCommand } = await import('./coordinator.js');
    const { listen, minWorkers, exact, audit, plain, cert, key } = options;
    const cluster = { listen, minWorkers, exact, audit, plain, cert, key };
    finish(await coordinatorCommand({ ...trainRequest(options, command), ...cluster }, !!options.json));
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
    .description('train with a coordinator and workers, all on this machine; it takes the options of train')
    .optionsGroup('Workers:')
    .option('--workers <n>', 'workers to start', whole(1, MOST_LOCAL_WORKERS), 2);
  addTrainOptions(demo, 'cluster').action(async (options, command: Command) => {
    const { demo } = await import('./demo.js');
    finish(await demo(trainRequest(options, command), options.workers, !!options.json));
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
