import { type Command, CommanderError } from 'commander';
import { LantrainError } from '../errors.js';
import { systemFailure } from '../files/files.js';
import { withoutDriversWords } from '../gpu/driver-words.js';
import { pasteable } from '../node/invocation.js';
import { oneLine } from '../util/one-line.js';
import { commandOf, commandsWith, pathOf } from './usage.js';

/** The text for standard error and the exit code of a failed command. */
export interface Failure {
  readonly text: string;
  readonly code: number;
}

/** One line for an error that a user can meet. Any other error is a bug and is shown with its stack. */
export function failureOf(thrown: unknown, program?: Command, args: readonly string[] = []): Failure {
  const error = systemFailure(thrown);
  if (error instanceof CommanderError) return usageFailure(error, program, args);
  if (error instanceof LantrainError)
    return {
      text: `error ${error.code}: ${withoutDriversWords(error, process.env.LANTRAIN_DEBUG ? '' : MORE)}\n${causesOf(error)}`,
      code: error.exitCode,
    };
  return { text: `unexpected error: ${error instanceof Error ? error.stack : String(error)}\n`, code: 1 };
}

const MORE = ' (with LANTRAIN_DEBUG=1 in the environment, its own words follow)';

/** Commander's messages in the form of our own. */
function usageFailure(error: CommanderError, program: Command | undefined, args: readonly string[]): Failure {
  if (error.exitCode === 0 || program === undefined) return { text: '', code: error.exitCode };
  const command = commandOf(program, args);
  const help = pasteable([...pathOf(command), '--help']);
  return { text: `error LT_USAGE_OPTION: ${oneLine(wordsOf(error, command, program))} (${help})\n`, code: 2 };
}

const LONGEST_VALUE = 80;

function wordsOf({ code, message }: CommanderError, command: Command, program: Command): string {
  const said = message.replace(/^error: /, '');
  const name = pathOf(command).join(' ') || 'lantrain';
  const invalid = /^option '[^']*?(--[\w-]+)[^']*' argument '(.*)' is invalid\. (.*)$/s.exec(said);
  if (invalid !== null) {
    const [, flag, value, why] = invalid;
    const shown = value.length > LONGEST_VALUE ? `${value.slice(0, LONGEST_VALUE)}...` : value;
    const choices = /^Allowed choices are (.*)\.$/.exec(why)?.[1];
    return `${flag} ${shown === '' || /\s/.test(shown) ? `'${shown}'` : shown} ${choices ? `is none of ${choices}` : why}`;
  }
  if (code === 'commander.unknownOption') {
    const flag = /'(.*)'/s.exec(said)?.[1] ?? '';
    const suggestion = /Did you mean ([^?]*)\?/.exec(said)?.[1];
    const others = commandsWith(program, flag);
    if (others.length > 0) return `${name} has no option ${flag}: that is an option of ${others.join(', ')}`;
    return `unknown option ${flag} of ${name}${suggestion ? `; did you mean ${suggestion}?` : ''}`;
  }
  if (code === 'commander.unknownCommand') {
    const unknown = /'(.*)'/s.exec(said)?.[1] ?? '';
    const suggestion = /Did you mean ([^?]*)\?/.exec(said)?.[1];
    const names = program.commands.map((c) => c.name()).join(', ');
    return `there is no command ${unknown}; ${suggestion ? `did you mean ${suggestion}?` : `commands are ${names}`}`;
  }
  if (code === 'commander.optionMissingArgument')
    return said.replace(/^option '(.*)' argument missing$/s, '$1 lacks its value');
  if (code === 'commander.missingMandatoryOptionValue')
    return said.replace(/^required option '(.*)' not specified$/s, `${name} needs $1`);
  if (code === 'commander.missingArgument')
    return said.replace(/^missing required argument '(.*)'$/s, `${name} needs <$1>`);
  if (code === 'commander.excessArguments') {
    const given = command.args.slice(command.registeredArguments.length);
    return `${name} does not know what to do with ${given.join(' ') || 'so many arguments'}`;
  }
  return said;
}

/** The causes of a failure, as drivers and libraries word them, if LANTRAIN_DEBUG is set. */
function causesOf(error: Error): string {
  if (!process.env.LANTRAIN_DEBUG) return '';
  let text = `${error.stack}\n`;
  for (let { cause } = error; cause instanceof Error; { cause } = cause) text += `because of: ${cause.stack}\n`;
  return text;
}
