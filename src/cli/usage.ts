import type { EventEmitter } from 'node:events';
import type { Command, Option } from 'commander';
import { LantrainError } from '../errors.js';
import { pasteable } from '../node/invocation.js';
import { readConfigFile } from '../run/config-file.js';
import { isGiven, tableOf } from './train-options.js';

/** The words that lead to a command, without the program's name. */
export function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

/** The command that these arguments name, as far as they name one. */
export function commandOf(program: Command, args: readonly string[]): Command {
  const next = program.commands.find((command) => command.name() === args[0]);
  return next === undefined ? program : commandOf(next, args.slice(1));
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

/** Names of the commands that have this option. */
export function commandsWith(program: Command, flag: string): string[] {
  const [name] = flag.split('=');
  return allCommands(program)
    .filter(({ options }) => options.some((option) => option.long === name))
    .map((command) => pathOf(command).join(' '));
}

const usageError = (words: string) => new LantrainError('LT_USAGE_OPTION', words);

function flagOf({ long, short }: Option): string {
  return long ?? short ?? '';
}

/** Options of which a user who gives two values wants both, and what to do instead. */
const COLLECTED: Readonly<Record<string, string>> = {
  data: 'give it once; to train on several files, give a folder that holds them',
};

/**
 * Makes every command of `program` refuse values that are empty, options that contradict or need one another, and two
 * values where all seem to be wanted. Of other options that are given twice the last one holds, as scripts rely on that;
 * `onNote` is told.
 */
export function addChecks(program: Command, onNote: (line: string) => void): void {
  for (const command of allCommands(program)) {
    const seen = new Map<string, { readonly option: Option; readonly value: unknown }>();
    // Before the library reads the value. Its types do not tell what it extends.
    for (const option of command.options)
      (command as unknown as EventEmitter).prependListener(`option:${option.name()}`, (value: unknown) => {
        const flag = flagOf(option);
        if (value === '') throw usageError(`${flag} is empty: give it a value or leave it out`);
        const before = seen.get(option.attributeName());
        if (before !== undefined && flagOf(before.option) !== flag)
          throw usageError(`${flagOf(before.option)} and ${flag} contradict each other: give one of them`);
        if (before !== undefined && before.value !== value) {
          const why = COLLECTED[option.attributeName()];
          if (why !== undefined)
            throw usageError(`${flag} is given twice, with ${before.value} and with ${value}: ${why}`);
          onNote(`note: ${flag} is given twice, with ${before.value} and with ${value}: the last one holds`);
        }
        seen.set(option.attributeName(), { option, value });
      });
  }
  program.hook('preAction', (_, command) => {
    takeConfigFile(command);
    checkTogether(command);
  });
}

/** Two options that cannot both hold, and why. */
const CONTRADICTIONS: readonly (readonly [one: string, other: string, why: string])[] = [
  ['resume', 'out', '--resume goes on in that run itself; to keep it as it is, copy its folder and resume the copy'],
  ['steps', 'epochs', 'both say how long the run is'],
  ['plain', 'cert', 'a connection by --plain has no TLS and shows no certificate'],
  ['plain', 'key', 'a connection by --plain has no TLS and shows no certificate'],
];

/** An option that says nothing without another one: command, option, what it needs. */
const NEEDS: readonly (readonly [command: string, option: string, needed: string, why: string])[] = [
  ['coordinator', 'cert', 'key', 'a certificate of your own needs its key'],
  ['coordinator', 'key', 'cert', 'a key belongs to a certificate of your own'],
  ['doctor', 'preset', 'tune', 'it names what --tune times'],
  ['doctor', 'planOut', 'tune', 'it says where the plan of --tune goes'],
  ['bench cluster', 'valRatio', 'data', 'it is a part of the data'],
];

/** Options that a file gives and that a flag on the command line displaces. */
const YIELDING: readonly (readonly [option: string, flag: string])[] = [
  ...CONTRADICTIONS.flatMap(([one, other]) => [[one, other] as const, [other, one] as const]),
  // The run that is resumed has its weights.
  ['init', 'resume'],
  ['plan', 'tune'],
];

/** Options that `--config` gives hold as if they were flags, where no flag says otherwise. */
function takeConfigFile(command: Command): void {
  const table = tableOf(command);
  const path: unknown = command.getOptionValue('config');
  if (table === undefined || typeof path !== 'string') return;
  const isFlag = (name: string) => command.getOptionValueSource(name) === 'cli';
  const { given, isRun } = readConfigFile(path, table, pathOf(command).join(' '));
  if (isRun && isFlag('preset'))
    throw usageError(
      `--preset says nothing beside --config ${path}, the configuration of a run, which has every option; leave one of them out`,
    );
  for (const [name, value] of Object.entries(given)) {
    const yields = YIELDING.some(([one, other]) => one === name && isFlag(other) && command.getOptionValue(other));
    if (!isFlag(name) && !yields) command.setOptionValueWithSource(name, value, 'config');
  }
}

function checkTogether(command: Command): void {
  const given = (name: string) => isGiven(command, name);
  const flag = (name: string) => {
    const option = command.options.find((o) => o.attributeName() === name);
    return option === undefined ? name : flagOf(option);
  };
  for (const [one, other, why] of CONTRADICTIONS)
    if (given(one) && given(other) && !areBothOfRun(command, one, other))
      throw usageError(`${flag(one)} and ${flag(other)} do not go together: ${why}; leave one of them out`);
  const path = pathOf(command).join(' ');
  for (const [name, option, needed, why] of NEEDS)
    if (path === name && given(option) && !given(needed))
      throw usageError(
        `${flag(option)} without ${flag(needed)}: ${why}; add ${flag(needed)}, or leave ${flag(option)} out`,
      );
}

/** A run's configuration says both how many epochs there are and how many steps, which win where there are any. */
function areBothOfRun(command: Command, one: string, other: string): boolean {
  return one === 'steps' && [one, other].every((name) => command.getOptionValueSource(name) === 'config');
}

/** Options of ours that npm knows as well and may have from elsewhere, such as a file of settings. */
const NPMS_OWN: ReadonlySet<string> = new Set(['audit', 'cert', 'help', 'json', 'key', 'version']);

/**
 * `npm run lantrain train --preset tiny` without `--` hands `--preset` to npm, which keeps it for itself and passes the
 * rest. Throws LT_USAGE_OPTION where that has happened.
 */
export function checkNpm(program: Command, args: readonly string[], env: NodeJS.ProcessEnv = process.env): void {
  if (env.npm_lifecycle_event === undefined || env.npm_package_name !== 'lantrain') return;
  const names = new Set(allCommands(program).flatMap(({ options }) => options.map((option) => option.name())));
  const taken = [...names].filter((name) => {
    const plain = name.replace(/^no-/, '');
    const value = env[`npm_config_${plain.replaceAll('-', '_')}`];
    return value !== undefined && !NPMS_OWN.has(plain) && !args.some((arg) => arg.startsWith(`--${name}`));
  });
  if (taken.length === 0) return;
  // `--no-tie` leaves an empty value.
  const flags = taken.filter((name) => {
    const plain = name.replace(/^no-/, '');
    const isNo = env[`npm_config_${plain.replaceAll('-', '_')}`] === '';
    return isNo === name.startsWith('no-') || !names.has(isNo ? `no-${plain}` : plain);
  });
  throw usageError(
    `npm took ${flags.map((name) => `--${name}`).join(', ')} for itself; put -- before the options: ` +
      `${pasteable([...pathOf(commandOf(program, args))])} ...`,
  );
}
