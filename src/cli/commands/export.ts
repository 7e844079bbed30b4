import type { Command } from 'commander';
import { printLine } from '../output.js';
import { showEvents } from '../show-events.js';

/** Adds `lantrain export`. */
export function addExport(program: Command, finish: (code: number) => void): void {
  program
    .command('export')
    .description("write a run's newest weights as a Hugging Face GPT-2 folder")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--out <dir>', 'the folder to write; new or empty')
    .action(async ({ run, out }: { readonly run: string; readonly out: string }) => {
      const { exportModel } = await import('../../run/export-model.js');
      const { checkpoint } = await exportModel({ run, out }, { onEvent: showEvents() });
      printLine(`wrote the weights of ${checkpoint} to ${out}`);
      finish(0);
    });
}
