import type { Command } from 'commander';
import { presetNamed } from '../../train/presets.js';

/** Adds `lantrain doctor`. */
export function addDoctor(program: Command, finish: (code: number) => void): void {
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
        const { doctorTune } = await import('../doctor-tune.js');
        finish(await doctorTune({ ...options, preset: presetNamed(options.preset ?? 'tiny') }));
        return;
      }
      const { doctor } = await import('../doctor.js');
      finish(await doctor(options));
    });
}
