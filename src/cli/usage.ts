import type { EventEmitter } from 'node:events';
import type { Command, Option } from 'commander';
import { LantrainError } from '../errors.js';
import { pasteable } from '../node/invocation.js';
import { readConfigFile } from '../run/config-file.js';
import { isGiven, tableOf } from './train-options.js';

/** The names from the program (excluded) to a command. */
export function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}

/** The innermost command that these arguments name. */
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

/** Options that take one value although a user may want several, and what to do instead. */
const COLLECTED: Readonly<Record<string, string>> = {
  data: 'give it once; to train on several files, give a folder that holds them',
};

/**
 * Makes every command of `program` refuse empty values, options that contradict or need one another, and two values for
 * the options in COLLECTED. For other options the last value counts, as scripts expect; `onNote` is called then.
 */
export function addChecks(program: Command, onNote: (line: string) => void): void {
  for (const command of allCommands(program)) {
    const seen = new Map<string, { readonly option: Option; readonly value: unknown }>();
    // Runs before commander parses the value. Commander's types do not show that Command extends EventEmitter.
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

/** Pairs of options that contradict each other, and why. */
const CONTRADICTIONS: readonly (readonly [one: string, other: string, why: string])[] = [
  ['resume', 'out', '--resume goes on in that run itself; to keep it as it is, copy its folder and resume the copy'],
  ['steps', 'epochs', 'both say how long the run is'],
  ['plain', 'cert', 'a connection by --plain has no TLS and shows no certificate'],
  ['plain', 'key', 'a connection by --plain has no TLS and shows no certificate'],
];

/** Options that need another one: command, option, needed option, why. */
const NEEDS: readonly (readonly [command: string, option: string, needed: string, why: string])[] = [
  ['coordinator', 'cert', 'key', 'a certificate of your own needs its key'],
  ['coordinator', 'key', 'cert', 'a key belongs to a certificate of your own'],
  ['doctor', 'preset', 'tune', 'it names what --tune times'],
  ['doctor', 'planOut', 'tune', 'it says where the plan of --tune goes'],
  ['bench cluster', 'valRatio', 'data', 'it is a part of the data'],
];

/** Pairs of an option in the file of `--config` and a flag on the command line that makes it void. */
const YIELDING: readonly (readonly [option: string, flag: string])[] = [
  ...CONTRADICTIONS.flatMap(([one, other]) => [[one, other] as const, [other, one] as const]),
  // A resumed run has its own weights.
  ['init', 'resume'],
  ['plan', 'tune'],
];

/** Applies the options in the file of `--config` as if they were flags; flags on the command line win. */
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

/**
 * Whether both options come from a run's config.json, which has both `epochs` and `steps`; `steps` wins unless it is 0.
 */
function areBothOfRun(command: Command, one: string, other: string): boolean {
  return one === 'steps' && [one, other].every((name) => command.getOptionValueSource(name) === 'config');
}

/** Options that npm has too, and may have got from elsewhere, such as a settings file. */
const NPMS_OWN: ReadonlySet<string> = new Set(['audit', 'cert', 'help', 'json', 'key', 'version']);

/**
 * Without `--`, `npm run lantrain train --preset tiny` gives `--preset` to npm, which passes on only the rest. Throws
 * LT_USAGE_OPTION where that has happened.
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
  // npm turns `--no-tie` into an empty value.
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
