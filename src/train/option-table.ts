import type { z } from 'zod';
import { LantrainError } from '../errors.js';
import { validate } from '../util/validate.js';

/*
 * An option is one row of a table. The command line and its help, files of settings, their JSON schema, the benchmarks' lists
 * and docs/cli.md are made from the rows.
 */

/** Headings of `--help`, in its order. */
export const TOPICS = ['Workers', 'Run', 'Model', 'Data', 'Optimizer', 'Computing', 'Reports'] as const;
export type Topic = (typeof TOPICS)[number];

/** A row without the schema of its value. */
export interface OptionFacts<Value> {
  /** The value's placeholder in `--help`: `<n>`, or `[n]` for one that may be left out. A switch has none. */
  readonly value?: string;
  /** The meaning of the option without its value, where that may be left out. */
  readonly bare?: string;
  readonly help: string;
  /** What `--no-...` means. A switch without it cannot be turned off. */
  readonly no?: string;
  /** The value where none is given. */
  readonly default?: Value;
  /** The default in words, where its value does not explain itself. */
  readonly defaultWords?: string;
  /** The schema of what a user may give, where that is less than what a run's configuration may hold. */
  readonly given?: z.ZodType<Value>;
  /** Runs before the schema, and throws an error of its own for an unfit text. */
  readonly check?: (text: string) => void;
  /** Only for a process that computes alone, or only for a cluster's; absent: for both. */
  readonly who?: 'alone' | 'cluster';
}

/** Where a row is listed. */
export interface OptionPlace {
  readonly topic: Topic;
  /** Whether speed or memory of a step depends on it. Benchmarks take such options. */
  readonly affectsSpeed?: boolean;
}

export interface OptionRow<S extends z.ZodType = z.ZodType> extends OptionFacts<z.output<S>>, OptionPlace {
  readonly schema: S;
}

export type OptionTable = Readonly<Record<string, OptionRow>>;

/** A row of `schema` and `facts`. */
export function option<S extends z.ZodType, const F>(
  schema: S,
  facts: F & OptionFacts<z.output<S>> & OptionPlace,
): F & { readonly schema: S } {
  return { ...facts, schema };
}

type Value<Row extends OptionRow> = z.output<Row['schema']>;
type WithDefault<T extends OptionTable> = {
  [K in keyof T]: T[K] extends { readonly default: unknown } ? K : never;
}[keyof T];

/** Any of the options, as a user gave them. */
export type Given<T extends OptionTable> = { readonly [K in keyof T]?: Value<T[K]> };

/** The options in effect: what was given, otherwise defaults where there are any. */
export type Settled<T extends OptionTable> = Given<T> & { readonly [K in WithDefault<T>]: Value<T[K]> };

/** The given options of the table, with defaults for the others. Throws LT_USAGE_OPTION for an invalid value. */
export function settle<T extends OptionTable>(table: T, given: Given<T>): Settled<T> {
  const settled: Record<string, unknown> = {};
  for (const [name, row] of Object.entries(table)) {
    const value = given[name] ?? row.default;
    const parsed = value === undefined ? undefined : validate(row.schema, value);
    if (parsed?.ok === false) throw new LantrainError('LT_USAGE_OPTION', `${flagOf(name)} ${value} ${parsed.words}`);
    settled[name] = value;
  }
  return settled as Settled<T>;
}

/** The given options that are not in the table. */
export function besides<T extends OptionTable, G extends Given<T>>(table: T, given: G): Omit<G, keyof T> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => !Object.hasOwn(table, name))) as Omit<G, keyof T>;
}

export function namesOf<T extends OptionTable>(table: T): (keyof T & string)[] {
  return Object.keys(table);
}

/** The flag of an option: `--micro-batch` for `microBatch`. */
export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** The given options as arguments of a command line that has all of them. */
export function argumentsOf<T extends OptionTable>(table: T, given: Given<T>): string[] {
  return Object.entries(given).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (value === true) return [flagOf(name)];
    if (value === false)
      return table[name].no === undefined ? [] : [flagOf(`no${name[0].toUpperCase()}${name.slice(1)}`)];
    return [`${flagOf(name)}=${value}`];
  });
}
