import type { Command } from 'commander';
import { printLine } from '../output.js';

/** Adds `lantrain report`. */
export function addReport(program: Command, finish: (code: number) => void): void {
  program
    .command('report')
    .description("write a run's report.html: curves, samples, workers, configuration, digests")
    .argument('<dir>', 'the run directory')
    .action(async (dir: string) => {
      const { report } = await import('../../run/report.js');
      printLine(await report(dir));
      finish(0);
    });
}
