import { Command } from 'commander';
import { CLUSTER_OPTIONS, DEMO_OPTIONS } from '../../cluster/cluster-options.js';
import { pasteable } from '../node/invocation.js';
import { version } from '../node/version.js';
import { addBench } from './bench.js';
import { addDoctor } from './commands/doctor.js';
import { addExport } from './commands/export.js';
import { addGenerate } from './commands/generate.js';
import { addReport } from './commands/report.js';
import { addView } from './commands/view.js';
import { addWorker } from './commands/worker.js';
import { addTable, givenOf, rowsFor, TRAINING_TABLES, trainRequestOf } from './train-options.js';
import { addChecks } from './usage.js';

/**
 * The command line. `finish` is called with a command's exit code, `onNote` with a line for each ignored value.
 * Commands load their code when they are called.
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
    const { trainCommand } = await import('./train.js');
    const { json, ...request } = trainRequestOf(train);
    finish(await trainCommand(request, json === true));
  });

  const coordinator = program
    .command('coordinator')
    .description('own a run that workers on this network compute; it takes the options of train');
  addTable(coordinator, rowsFor('cluster', TRAINING_TABLES.coordinator)).action(async () => {
    const { coordinatorCommand } = await import('./coordinator.js');
    const { json, ...request } = trainRequestOf(coordinator);
    finish(await coordinatorCommand({ ...request, ...givenOf(coordinator, CLUSTER_OPTIONS) }, json === true));
  });

  addWorker(program, finish);

  const demo = program
    .command('demo')
    .description('train with a coordinator and workers, all on this machine; it takes the options of train');
  addTable(demo, rowsFor('cluster', TRAINING_TABLES.demo)).action(async () => {
    const { demoCommand } = await import('./demo.js');
    const { json, ...request } = trainRequestOf(demo);
    finish(await demoCommand({ ...request, ...givenOf(demo, DEMO_OPTIONS) }, json === true));
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
