import { Command } from 'commander';
import { MOST_LOCAL_WORKERS } from '../../cluster/request.js';
import { DEFAULT_LIMITS } from '../../cluster/transport/limits.js';
import { pasteable } from '../node/invocation.js';
import { version } from '../node/version.js';
import { addBench } from './bench.js';
import { addDoctor } from './commands/doctor.js';
import { addExport } from './commands/export.js';
import { addGenerate } from './commands/generate.js';
import { addReport } from './commands/report.js';
import { addView } from './commands/view.js';
import { addWorker } from './commands/worker.js';
import { amount, whole } from './numbers.js';
import { addTrainOptions, explicitOptions, presetNamed } from './train-options.js';
import { addChecks } from './usage.js';

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

  addWorker(program, finish);

  const demo = program
    .command('demo')
    .description('train with a coordinator and workers, all on this machine; it takes the options of train')
    .optionsGroup('Workers:')
    .option('--workers <n>', 'workers to start', whole(1, MOST_LOCAL_WORKERS), 2);
  addTrainOptions(demo, 'cluster').action(async (options, command: Command) => {
    const { demoCommand } = await import('./demo.js');
    finish(await demoCommand({ ...trainRequest(options, command), workers: options.workers }, !!options.json));
  });

  addGenerate(program, finish);
  addExport(program, finish);
  addView(program, finish);
  addReport(program, finish);
  addDoctor(program, finish);
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
