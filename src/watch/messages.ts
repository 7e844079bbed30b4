/**
 * The messages between the page and the process that serves it: JSON in WebSocket texts. Both sides import this file.
 *
 *     page                                    server
 *     hello (nonce, whether as admin)    ->
 *                                       <-    challenge (nonce)
 *     proof (HMAC under each token)      ->
 *                                       <-    accepted (its own HMAC), run, history, update ...
 *     range (of the history)             ->
 *                                       <-    history
 *     control (admin)                    ->
 *                                       <-    answer
 *
 * The tokens themselves are never sent. A page that has not proved the join token gets only the challenge.
 */
import * as z from 'zod';
import { printable } from '../util/printable.js';

/** Raised with every change of a message. */
export const WATCH_VERSION = 2;
export const WATCH_PATH = '/watch';

const hex = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.number().int().min(0);
/** JSON has no NaN: values that are not finite or unknown are null. */
const real = z.number().nullable();
/** UTF-16 units of a text on the page: more than any sample has. */
const LONGEST_TEXT = 100_000;
/** Text that others caused: names, samples, reasons. It is made printable. */
const text = z.string().transform((said) => printable(said.slice(0, LONGEST_TEXT)));

const ACTIONS = ['pause', 'resume', 'checkpoint', 'stop', 'drop'] as const;
export type Action = (typeof ACTIONS)[number];

/** Columns of equal length. An entry is a step or a bucket of consecutive steps. */
const Columns = z.object({
  /** The last step of the bucket. */
  step: z.array(count),
  /** Seconds spent in steps so far, without evaluations, pauses and waiting for workers. */
  seconds: z.array(real),
  loss: z.array(real),
  lossMin: z.array(real),
  lossMax: z.array(real),
  tokensPerSecond: z.array(real),
  tokensPerSecondMin: z.array(real),
  tokensPerSecondMax: z.array(real),
  lr: z.array(real),
  gradNorm: z.array(real),
  gradNormMin: z.array(real),
  gradNormMax: z.array(real),
});
export type Columns = z.infer<typeof Columns>;

export function emptyColumns(): Columns {
  const names = Object.keys(Columns.shape) as (keyof Columns)[];
  return Object.fromEntries(names.map((name) => [name, []])) as unknown as Columns;
}

const Evaluation = z.object({ step: count, seconds: real, train: real, val: real });
export type Evaluation = z.infer<typeof Evaluation>;

const WORKER_STATES = [
  'joining',
  'loading',
  'waiting',
  'computing',
  'uploading',
  'evaluating',
  'fenced',
  // It took part and has left.
  'left',
] as const;
export type WorkerState = (typeof WORKER_STATES)[number];

/** The id of the owner's own adapter among the workers. It cannot be dropped. */
export const OWNER_ID = 0;

const Worker = z.object({
  id: count,
  name: text,
  adapter: text,
  bitClass: text,
  /** The name of its bit class, unique in the run. */
  bits: text,
  /** Whether it has the owner's bit class. */
  exact: z.boolean(),
  state: z.enum(WORKER_STATES),
  /** Micro-batches of its assignments, and those of them that are done. */
  dealt: count,
  done: count,
  /** Its fraction of the tokens of the last seconds, 0 to 1. */
  share: real,
  /** Tokens/s while at work, by the coordinator's clock. */
  tokensPerSecond: real,
  roundTripMs: real,
  /** Tokens in all starts of the run. */
  tokens: count,
});
export type WorkerInfo = z.infer<typeof Worker>;

/** Milliseconds of a mean step in the last seconds: of a worker, and of the owner meanwhile. */
const Split = z.object({
  step: z.number(),
  compute: z.number(),
  upload: z.number(),
  wait: z.number(),
  download: z.number(),
  sum: z.number(),
  update: z.number(),
});
export type Split = z.infer<typeof Split>;

const LogEntry = z.object({
  /** Milliseconds since 1970; null where the time is unknown. */
  at: real,
  step: count,
  kind: text,
  worker: text.optional(),
  text,
});
export type LogEntry = z.infer<typeof LogEntry>;

const Sample = z.object({ step: count, text });
export type Sample = z.infer<typeof Sample>;
const CheckpointInfo = z.object({ step: count, digest: text, path: text });
export type CheckpointInfo = z.infer<typeof CheckpointInfo>;

const STATES = ['starting', 'waiting', 'running', 'paused', 'stopping', 'done', 'stopped', 'failed', 'past'] as const;
export type RunState = (typeof STATES)[number];
/** States in which a run is over. */
export const OVER: ReadonlySet<RunState> = new Set(['done', 'stopped', 'failed', 'past']);

const Status = z.object({
  state: z.enum(STATES),
  /** Why it failed. */
  reason: text.optional(),
  step: count,
  /** Null while the run does not compute, or where no estimate is known yet. */
  secondsLeft: real,
  /** Tokens/s of the last seconds; once the run is over, of all its steps. Null while the run does not compute. */
  tokensPerSecond: real,
  /** The run's tokens/s over the sum of its workers' tokens/s; null without workers. */
  efficiency: real,
  /** Whether workers of other bit classes take or took part. */
  mixed: z.boolean(),
  /** Since when, and from whom, the run has used a wrong result, in words. */
  inexact: text.optional(),
  /** The worker that the current step waits for, and for how long, in words. */
  awaited: text.optional(),
  /** Of the last step: the expected squared error of rounding the gradient, over its squared norm. Low wire only. */
  noise: real.optional(),
});
export type Status = z.infer<typeof Status>;

const Run = z.object({
  type: z.literal('run'),
  name: text,
  version: text,
  kind: z.enum(['single', 'cluster', 'past']),
  model: text,
  data: text,
  adapter: text,
  totalSteps: count.min(1),
  tokensPerStep: count.min(1),
  stepsPerEpoch: count.min(1),
  /** Pairs of name and value of the configuration. */
  settings: z.array(z.tuple([text, text])),
  /** The page's URL for other machines, without a token; absent where they cannot reach it. */
  address: text.optional(),
});
export type RunFacts = z.infer<typeof Run>;

export const SERVER_MESSAGES = {
  challenge: z.object({ type: z.literal('challenge'), version: count, nonce: hex }),
  accepted: z.object({ type: z.literal('accepted'), proof: hex, admin: z.boolean() }),
  run: Run,
  /** Answer to `range`. `id` 0: the whole run so far, which updates continue. */
  history: z.object({ type: z.literal('history'), id: count, columns: Columns }),
  /** The news. Its lists continue the page's, except `workers`, which replaces the page's. */
  update: z.object({
    type: z.literal('update'),
    status: Status,
    steps: Columns.optional(),
    evaluations: z.array(Evaluation).optional(),
    workers: z.array(Worker).optional(),
    split: Split.nullable().optional(),
    log: z.array(LogEntry).optional(),
    samples: z.array(Sample).optional(),
    checkpoints: z.array(CheckpointInfo).optional(),
  }),
  answer: z.object({ type: z.literal('answer'), action: z.enum(ACTIONS), text }),
} as const;

export const PAGE_MESSAGES = {
  hello: z.strictObject({ type: z.literal('hello'), version: count, nonce: hex, admin: z.boolean() }),
  proof: z.strictObject({ type: z.literal('proof'), proof: hex, adminProof: hex.optional() }),
  /** Requests steps `from` to `to` in at most `points` buckets. The answer is a `history` with the same `id`. */
  range: z.strictObject({
    type: z.literal('range'),
    id: count,
    from: count,
    to: count,
    points: z.number().int().min(2).max(4000),
  }),
  control: z.strictObject({ type: z.literal('control'), action: z.enum(ACTIONS), worker: count.optional() }),
} as const;

type Union<T extends Record<string, z.ZodType>> = { [K in keyof T]: z.infer<T[K]> }[keyof T];
export type ServerMessage = Union<typeof SERVER_MESSAGES>;
export type PageMessage = Union<typeof PAGE_MESSAGES>;
export type Update = Extract<ServerMessage, { type: 'update' }>;

/** The message in a WebSocket text; undefined where it does not match one of `schemas`. */
function decode<T extends Record<string, z.ZodType>>(schemas: T, data: unknown): Union<T> | undefined {
  if (typeof data !== 'string') return undefined;
  let value: { readonly type?: unknown } | null;
  try {
    value = JSON.parse(data);
  } catch {
    return undefined;
  }
  const type = value?.type;
  if (typeof type !== 'string' || !Object.hasOwn(schemas, type)) return undefined;
  const result = schemas[type].safeParse(value);
  return result.success ? (result.data as Union<T>) : undefined;
}

export const decodePageMessage = (data: unknown) => decode(PAGE_MESSAGES, data);
export const decodeServerMessage = (data: unknown) => decode(SERVER_MESSAGES, data);

export type Role = 'watcher' | 'server' | 'admin';

/** The statement of a page's proof. Its words differ from those of workers' proofs. */
export function watchStatement(role: Role, pageNonce: Uint8Array, serverNonce: Uint8Array, fingerprint: string) {
  return {
    words: `lantrain watch ${WATCH_VERSION} ${role} ${fingerprint} `,
    nonces: [pageNonce, serverNonce],
  } as const;
}

/** The secrets in a page's link: `#TOKEN.FINGERPRINT.ADMIN`. The last two may be empty or missing. */
export interface PageSecrets {
  readonly token: string;
  readonly fingerprint: string;
  readonly admin: string;
}

export function formatFragment({ token, fingerprint, admin }: PageSecrets): string {
  return `#${[token, fingerprint, admin].join('.').replace(/\.+$/, '')}`;
}

export function parseFragment(fragment: string): PageSecrets {
  const [token = '', fingerprint = '', admin = ''] = fragment.replace(/^#/, '').split('.');
  return { token, fingerprint, admin };
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
