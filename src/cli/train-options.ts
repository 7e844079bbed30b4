import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import { CLUSTER_OPTIONS, DEMO_OPTIONS } from '../../cluster/cluster-options.js';
import type { TrainRequest } from '../run/request.js';
import { RUN_OPTIONS } from '../run/run-options.js';
import { flagOf, type Given, type OptionRow, type OptionTable, TOPICS } from '../train/option-table.js';
import { BASE_OPTIONS, TRAIN_OPTIONS, type TrainOptions } from '../train/options.js';
import { DEFAULT_PRESET, PRESETS } from '../train/presets.js';
import { validate } from '../util/validate.js';
import { decimal } from './numbers.js';

/** A process that trains alone, or one that shares its work. */
export type Who = 'alone' | 'cluster';

/** The option tables of the training commands. */
export const TRAINING_TABLES = {
  train: { ...RUN_OPTIONS, ...TRAIN_OPTIONS },
  coordinator: { ...CLUSTER_OPTIONS, ...RUN_OPTIONS, ...TRAIN_OPTIONS },
  demo: { ...DEMO_OPTIONS, ...RUN_OPTIONS, ...TRAIN_OPTIONS },
} as const;

/** The rows of `table` for such a process. */
export function rowsFor(who: Who, table: OptionTable): OptionTable {
  return Object.fromEntries(Object.entries(table).filter(([, row]) => row.who === undefined || row.who === who));
}

const tables = new WeakMap<Command, OptionTable>();

/** The table that `command` got its options from; undefined where it has none. */
export function tableOf(command: Command): OptionTable | undefined {
  return tables.get(command);
}

/** Adds the options of a table to a command, grouped by topic. */
export function addTable(command: Command, table: OptionTable): Command {
  tables.set(command, { ...tables.get(command), ...table });
  const byTopic = Object.entries(table).toSorted(([, a], [, b]) => TOPICS.indexOf(a.topic) - TOPICS.indexOf(b.topic));
  for (const [name, row] of byTopic)
    for (const one of optionsOf(name, row)) command.addOption(one.helpGroup(`${row.topic}:`));
  return command;
}

/** The options of `table` that were given, on the command line or in the file of `--config`, without defaults. */
export function givenOf<T extends OptionTable>(command: Command, table: T): Given<T> {
  const given: Record<string, unknown> = {};
  for (const [name, { bare }] of Object.entries(table)) {
    const value = command.getOptionValue(name);
    if (isGiven(command, name)) given[name] = value === true ? (bare ?? value) : value;
  }
  return given as Given<T>;
}

/** Whether an option was given, on the command line or in the file of `--config`. */
export function isGiven(command: Command, name: string): boolean {
  return ['cli', 'config'].includes(command.getOptionValueSource(name) ?? '');
}

/** The library's request of a training command, and whether it prints JSON. */
export function trainRequestOf(command: Command): TrainRequest & Given<Pick<typeof RUN_OPTIONS, 'json'>> {
  const { config: _, ...run } = givenOf(command, RUN_OPTIONS);
  return { ...run, ...givenOf(command, TRAIN_OPTIONS) };
}

/** Commander's options for a row: two for a switch that can be turned off. */
function optionsOf(name: string, row: OptionRow): Option[] {
  const { value, help, no } = row;
  const [on, off] = defaultsOf(name, row);
  const choices = choicesOf(row).filter((choice) => !help.includes(choice));
  const text = `${help}${choices.length > 0 ? `: ${choicesOf(row).join(', ')}` : ''}${on}`;
  const option = new Option([flagOf(name), ...(value === undefined ? [] : [value])].join(' '), text);
  if (value !== undefined) option.argParser((given) => readText(given, row));
  return [option, ...(no === undefined ? [] : [new Option(flagOf(name).replace('--', '--no-'), no + off)])];
}

function choicesOf({ schema }: OptionRow): string[] {
  return schema instanceof z.ZodEnum ? schema.options.map(String) : [];
}

/** Parses the text of an option. Throws InvalidArgumentError with what is wrong with it. */
function readText(text: string, row: OptionRow): unknown {
  const { schema, given = schema } = row;
  row.check?.(text);
  const choices = choicesOf(row);
  if (choices.length > 0 && !choices.includes(text))
    throw new InvalidArgumentError(`Allowed choices are ${choices.join(', ')}.`);
  const parsed = validate<unknown>(given, schema instanceof z.ZodNumber ? decimal(text) : text);
  if (!parsed.ok) throw new InvalidArgumentError(parsed.words);
  return parsed.data;
}

/** The default in `--help`, after an option and after its opposite. */
function defaultsOf(name: string, row: OptionRow): [on: string, off: string] {
  const key = name as keyof TrainOptions;
  const isPresets = Object.values(PRESETS).some((preset) => Object.hasOwn(preset, name));
  const title = isPresets ? `default of ${DEFAULT_PRESET}` : 'default';
  const preset: Partial<TrainOptions> = PRESETS[DEFAULT_PRESET];
  const value = preset[key] ?? (Object.hasOwn(BASE_OPTIONS, name) ? BASE_OPTIONS[key] : row.default);
  if (row.schema instanceof z.ZodBoolean && row.defaultWords === undefined) {
    if (row.no === undefined || value === undefined) return ['', ''];
    return value ? [` (${title})`, ''] : ['', ` (${title})`];
  }
  const words = value === row.default ? (row.defaultWords ?? value) : value;
  // A text with blanks is quoted.
  const shown = words === value && /\s/.test(String(words)) ? `'${words}'` : words;
  return [shown === undefined ? '' : ` (${title}: ${shown})`, ''];
}
