#!/usr/bin/env node
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { LantrainError } from '../errors.js';
import { systemFailure } from '../files.js';
import { addBench } from './bench.js';
import { listenAddress } from './lan-address.js';
import { guardOutput } from './output.js';
import { anyAddress } from './reachable.js';
import { addTrainOptions, explicitOptions, presetNamed } from './train-options.js';
import { version } from './version.js';

const whole = (least: number) => (text: string) => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new InvalidArgumentError(`must be a whole number of at least ${least}`);
  return value;
};

const amount = (text: string) => {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0)) throw new InvalidArgumentError('must be a number of at least 0');
  return value;
};

function trainCommand(options: Record<string, never>, command: Command) {
  const { preset, init, out, resume, adapter, plan, tune, profile, json } = options;
  const named = preset === undefined ? undefined : presetNamed(preset);
  return { preset: named, explicit: explicitOptions(command), init, out, resume, adapter, plan, tune, profile, json };
}

/** The exit code of the command that ran; commands load what they need when they are called. */
async function main(argv: readonly string[]): Promise<number> {
  let code = 0;
  const program = new Command('lantrain')
    .description('Train GPT-2-style language models on raw WebGPU: one run, one digest.')
    .version(version())
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .showSuggestionAfterError();

  addTrainOptions(program.command('train').description('train a model, or go on with a run (--resume)'))
    .option('--watch [host:port]', 'serve a page that shows the run (default: 127.0.0.1, a free port)')
    .action(async (options, command: Command) => {
      const { train } = await import('./train.js');
      const where = options.watch === true ? '127.0.0.1:0' : options.watch;
      const watch = where === undefined ? undefined : listenAddress(where, '--watch');
      code = await train({ ...trainCommand(options, command), watch });
    });

  const coordinator = program
    .command('coordinator')
    .description('own a run that workers on this network compute')
    .option(
      '--listen <host:port>',
      'where workers join; port 0 takes a free one (default: every address, port 7070 or the next free one)',
    )
    .option('--min-workers <n>', 'workers that must be there before the first step', whole(1), 1)
    .option('--exact', "refuse workers that compute other bits than this machine's adapter")
    .option('--audit <share>', 'contributions that a second worker confirms, 0 to 1', amount, 0)
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--cert <file>', 'your own certificate, PEM')
    .option('--key <file>', 'its key, PEM');
  addTrainOptions(coordinator).action(async (options, command: Command) => {
    const { coordinate } = await import('./coordinator.js');
    const { minWorkers, audit, cert, key } = options;
    const [host, port] = options.listen === undefined ? [anyAddress()] : listenAddress(options.listen);
    const cluster = { host, port, minWorkers, audit, cert, key, exact: !!options.exact, plain: !!options.plain };
    code = await coordinate({ ...trainCommand(options, command), ...cluster });
  });

  program
    .command('worker')
    .description('compute for a coordinator; without a URL, one is looked for on this network')
    .argument('[url]', 'the join URL that the coordinator printed')
    .option('--name <name>', 'what the coordinator calls this worker')
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--plain', 'ws without TLS, also to other machines')
    .option('--patience <seconds>', 'give up after so long without a coordinator; 0: never', amount, 0)
    .option('--recompute', 'compute layers again in backward: less memory, more time, the same bits')
    .option('--quiet', 'print errors only')
    .option('--drag <ms>', 'sleep after each micro-batch, to try a slow worker', amount)
    .action(async (url, options) => {
      const { work } = await import('./worker.js');
      code = await work({
        ...options,
        url,
        plain: !!options.plain,
        quiet: !!options.quiet,
        recompute: !!options.recompute,
      });
    });

  const demo = program
    .command('demo')
    .description('train with a coordinator and workers, all on this machine')
    .option('--workers <n>', 'workers to start', whole(1), 2);
  addTrainOptions(demo).action(async (options, command: Command) => {
    const { demo } = await import('./demo.js');
    code = await demo({ ...trainCommand(options, command), workers: options.workers });
  });

  program
    .command('generate')
    .description("print text of a run's newest checkpoint")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--prompt <text>', 'what the text begins with')
    .option('--tokens <n>', 'tokens to draw', whole(1), 200)
    .option('--temperature <x>', '0: always the likeliest token', amount, 0.8)
    .option('--top-k <n>', 'draw from the k likeliest tokens; 0: from all', whole(0), 40)
    .option('--seed <n>', 'of the draw', whole(0), 42)
    .option('--adapter <name>', 'the GPU whose name contains this')
    .action(async (options) => {
      const { generate } = await import('./generate.js');
      code = await generate(options);
    });

  program
    .command('export')
    .description("write a run's newest weights as a Hugging Face GPT-2 folder")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--out <dir>', 'the folder to write')
    .action(async (options) => {
      const { exportModel } = await import('./export.js');
      code = await exportModel(options);
    });

  program
    .command('view')
    .description('serve the page of a run that lies on the disk, for this machine')
    .argument('<dir>', 'the run directory')
    .option('--port <n>', 'the port; 0 takes a free one', whole(0), 0)
    .action(async (dir, options) => {
      const { view } = await import('./view.js');
      code = await view(dir, options.port);
    });

  program
    .command('report')
    .description("write a run's report.html: curves, samples, workers, configuration, digests")
    .argument('<dir>', 'the run directory')
    .action(async (dir) => {
      const { report } = await import('./report.js');
      code = await report(dir);
    });

  program
    .command('doctor')
    .description('what this machine can do, and what is wrong if something is')
    .option('--adapter <name>', 'the GPU whose name contains this')
    .option('--json', 'print one JSON line')
    .option('--tune', 'time the kernels that could compute a preset, and print the table')
    .option('--preset <name>', 'the preset to tune (default: tiny)')
    .option('--plan-out <file>', 'write the plan of the winners, for train --plan')
    .action(async (options) => {
      if (options.tune) {
        const { doctorTune } = await import('./doctor-tune.js');
        code = await doctorTune({ ...options, preset: presetNamed(options.preset ?? 'tiny') });
        return;
      }
      const { doctor } = await import('./doctor.js');
      code = await doctor(options);
    });

  addBench(program, (result) => {
    code = result;
  });

  await program.parseAsync(argv);
  return code;
}

/** One line for what a user can meet; anything else is a defect of ours and shows where it is. */
function report(thrown: unknown): number {
  const error = systemFailure(thrown);
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    process.stderr.write(`${error.message.replace(/\s*\n\s*/g, ' ')} (lantrain --help)\n`);
    return 2;
  }
  if (error instanceof LantrainError) {
    process.stderr.write(`error ${error.code}: ${error.message}\n`);
    return error.exitCode;
  }
  process.stderr.write(`unexpected error: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

guardOutput();
// Only runs do something with these; elsewhere Node would open a debugger, or die.
for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => {});
// Dawn keeps the process alive, so it is ended here, once both streams are flushed.
const code = await main(process.argv).catch(report);
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
