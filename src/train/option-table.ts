import type { z } from 'zod';
import { LantrainError } from '../errors.js';
import { validate } from '../util/validate.js';

/*
 * An option is one row of a table: the command line and its help, files of settings, their JSON schema, the
 * benchmarks' lists and docs/cli.md are made from the rows.
 */

/** Headings of `--help`, in its order. */
export const TOPICS = ['Workers', 'Run', 'Model', 'Data', 'Optimizer', 'Computing', 'Reports'] as const;
export type Topic = (typeof TOPICS)[number];

/** What a row says beside what its value may be. */
export interface OptionFacts<Value> {
  /** What stands for the value in `--help`: `<n>`, or `[n]` for one that may be left out. A switch has none. */
  readonly value?: string;
  /** What it stands for without its value, where that may be left out. */
  readonly bare?: string;
  readonly help: string;
  /** What `--no-...` means. A switch without it cannot be turned off. */
  readonly no?: string;
  /** What holds where nobody gives it. */
  readonly default?: Value;
  /** The same in words, where the value does not say it. */
  readonly defaultWords?: string;
  /** What a user may give, where that is less than what a run's configuration may hold. */
  readonly given?: z.ZodType<Value>;
  /** Throws an error of its own for a text that will not do, before the schema is asked. */
  readonly check?: (text: string) => void;
  /** Of a process that computes alone, or of one that shares its work out; absent: of both. */
  readonly who?: 'alone' | 'cluster';
}

/** Where a row belongs. */
export interface OptionPlace {
  readonly topic: Topic;
  /** Speed or memory of a step depends on it: the benchmarks take it. */
  readonly affectsSpeed?: boolean;
}

export interface OptionRow<S extends z.ZodType = z.ZodType> extends OptionFacts<z.output<S>>, OptionPlace {
  readonly schema: S;
}

export type OptionTable = Readonly<Record<string, OptionRow>>;

/** A row: what the value may be, and the facts. */
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

/** What a user may have given: any of the options. */
export type Given<T extends OptionTable> = { readonly [K in keyof T]?: Value<T[K]> };

/** What holds: what was given, else the default where there is one. */
export type Settled<T extends OptionTable> = Given<T> & { readonly [K in WithDefault<T>]: Value<T[K]> };

/** The options of the table, with their defaults for what is missing. Throws LT_USAGE_OPTION for a value that cannot be. */
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

/** What was given beside the options of the table. */
export function besides<T extends OptionTable, G extends Given<T>>(table: T, given: G): Omit<G, keyof T> {
  return Object.fromEntries(Object.entries(given).filter(([name]) => !Object.hasOwn(table, name))) as Omit<G, keyof T>;
}

export function namesOf<T extends OptionTable>(table: T): (keyof T & string)[] {
  return Object.keys(table);
}

/** `microBatch` is given by `--micro-batch`. */
export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** Values as arguments of a command line that has all these options. */
export function argumentsOf<T extends OptionTable>(table: T, given: Given<T>): string[] {
  return Object.entries(given).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (value === true) return [flagOf(name)];
    if (value === false)
      return table[name].no === undefined ? [] : [flagOf(`no${name[0].toUpperCase()}${name.slice(1)}`)];
    return [`${flagOf(name)}=${value}`];
  });
}
