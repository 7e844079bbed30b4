import { closest, distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import type { Given, OptionTable } from '../train/option-table.js';
import { TRAIN_OPTIONS } from '../train/options.js';
import { validate } from '../util/validate.js';

/** Characters of a wrong value that a message shows. */
const LONGEST_VALUE = 80;
/** Names within this edit distance are suggested. */
const NEAR = 4;

export interface ConfigFile<T extends OptionTable> {
  readonly given: Given<T>;
  /** The file is a run's own config.json, which has every training option. */
  readonly isRun: boolean;
}

/**
 * Reads options from a JSON file: an object of options by their names, or a run's own config.json. `table`: the options
 * of the command `verb`. A run gives its options, its initial weights (`init`) and its kernel plan. Throws
 * LT_USAGE_OPTION or LT_USAGE_PRESET, with the file, the option and what is wrong with it.
 */
export function readConfigFile<T extends OptionTable>(path: string, table: T, verb: string): ConfigFile<T> {
  const json = jsonOf(path);
  if (!isObject(json)) throw wrong(path, 'it must be an object of options by their names');
  const isRun = isObject(json.options) && isObject(json.model);
  // A run has all training options, also those that this command lacks.
  const known: OptionTable = isRun ? TRAIN_OPTIONS : table;
  const entries = Object.entries(isRun ? (json.options as object) : json).filter(([name]) => name !== '$schema');
  const given: Record<string, unknown> = {};
  for (const [name, value] of entries) {
    const row = name === 'config' || !Object.hasOwn(known, name) ? undefined : known[name];
    if (row === undefined)
      throw wrong(path, `${JSON.stringify(name)} is no option of ${verb}${suggestion(name, known)}`);
    given[name] = readValue(path, name, value, row);
  }
  if (isRun) {
    if (json.init !== undefined) given.init = readValue(path, 'init', json.init, table.init);
    if (json.plan !== undefined) given.plan = path;
  }
  return { given: given as Given<T>, isRun };
}

function readValue(path: string, name: string, value: unknown, { schema, check }: OptionTable[string]): unknown {
  if (value === '') throw wrong(path, `${name} is empty: give it a value or leave it out`);
  try {
    if (typeof value === 'string') check?.(value);
  } catch (cause) {
    if (cause instanceof LantrainError) throw wrong(path, `${name}: ${cause.message}`, cause);
    throw cause;
  }
  const parsed = validate(schema, value);
  if (!parsed.ok) throw wrong(path, `${name} ${parsed.words}, not ${JSON.stringify(value).slice(0, LONGEST_VALUE)}`);
  return parsed.data;
}

function jsonOf(path: string): unknown {
  try {
    return JSON.parse(readRegular(path).toString('utf8'));
  } catch (cause) {
    throw wrong(path, cause instanceof SyntaxError ? 'this is not JSON' : reason(cause), cause);
  }
}

function suggestion(name: string, table: OptionTable): string {
  const near = closest(
    name,
    Object.keys(table).filter((one) => one !== 'config'),
  );
  return distance(name, near) <= NEAR ? `; did you mean ${near}?` : '';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(path: string, what: string, cause?: unknown): LantrainError {
  const code = cause instanceof LantrainError ? cause.code : 'LT_USAGE_OPTION';
  return new LantrainError(code, `--config ${path}: ${what}`, { cause });
}

/** The JSON schema of option files, over all tables whose options such a file may have. */
export function configSchemaOf(tables: readonly OptionTable[]): object {
  const properties: Record<string, object> = { $schema: { type: 'string' } };
  for (const [name, { schema, help, default: value }] of tables.flatMap((table) => Object.entries(table))) {
    if (name === 'config') continue;
    const { $schema: _, ...own } = z.toJSONSchema(schema);
    properties[name] = { description: help, ...own, ...(value === undefined ? {} : { default: value }) };
  }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Options of lantrain: a file for --config of train, coordinator and demo',
    type: 'object',
    properties,
    additionalProperties: false,
  };
}
