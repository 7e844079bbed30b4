import { type Command, CommanderError } from 'commander';
import { failureOf } from './failure.js';
import { remarkLine } from './output.js';
import { createProgram } from './program.js';
import { checkNpm, commandOf } from './usage.js';

/**
 * Runs a command line; `args` without `node` and the script. Returns the exit code. Failures are printed to standard
 * error.
 */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let program: Command | undefined;
  try {
    let code = 0;
    program = createProgram((result) => {
      code = result;
    }, remarkLine);
    checkNpm(program, args);
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    // A call without a command prints the help.
    if (program && error instanceof CommanderError && error.code === 'commander.help') {
      commandOf(program, args).outputHelp();
      return 0;
    }
    const { text, code } = failureOf(error, program, args);
    process.stderr.write(text);
    return code;
  }
}
