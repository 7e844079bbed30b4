import type { Command } from 'commander';
import { GENERATE_DEFAULTS, type GenerateOptions } from '../../run/generate-options.js';
import { amount, whole } from '../numbers.js';
import { showEvents } from '../show-events.js';

/** Adds `lantrain generate`. */
export function addGenerate(program: Command, finish: (code: number) => void): void {
  program
    .command('generate')
    .description("print text of a run's newest checkpoint")
    .requiredOption('--run <dir>', 'the run directory')
    .requiredOption('--prompt <text>', 'what the text begins with')
    .option('--tokens <n>', 'tokens to draw', whole(1), GENERATE_DEFAULTS.tokens)
    .option('--temperature <x>', '0: always the likeliest token', amount(), GENERATE_DEFAULTS.temperature)
    .option('--top-k <n>', 'draw from the k likeliest tokens; 0: from all', whole(0), GENERATE_DEFAULTS.topK)
    .option('--seed <n>', 'of the draw', whole(0), GENERATE_DEFAULTS.seed)
    .option('--adapter <name>', 'the GPU whose name contains this')
    .action(async (options: GenerateOptions) => {
      const { generate } = await import('../../run/generate.js');
      let text = options.prompt;
      for await (const piece of generate(options, { onEvent: showEvents() })) {
        process.stdout.write(text + piece);
        text = '';
      }
      process.stdout.write(`${text}\n`);
      finish(0);
    });
}
