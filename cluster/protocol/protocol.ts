/**
 * What coordinator and workers say to each other; both sides, in Node and in a browser, import this one file.
 *
 *     worker                              coordinator
 *     hello (nonce, version)       ->
 *                                  <-     challenge (nonce, version)
 *     proof (HMAC of both nonces)  ->
 *                                  <-     accepted (its own HMAC: it knows the token too)
 *     join (name, adapter)         ->
 *                                  <-     welcome (the run), probe ...
 *     hashes ...                   ->
 *                                  <-     weights, then frames with every bucket whole
 *     ready                        ->
 *                                  <-     assign (tokens)
 *     progress, want, frames ...   ->
 *                                  <-     credit, reclaim, fence, frames with differences, commit
 *
 * Control messages are maps in MessagePack, checked against these schemas; frames (`frame.ts`) carry the payloads. What
 * the transport itself answers is the handshake, `want`, `credit`, `ping` and `pong`.
 */
import { Packr } from 'msgpackr/pack';
import { z } from 'zod';
import { BOUNDS, ModelSchema } from '../../src/model/config.js';
import { IGNORED_TARGET } from '../../src/model/gpt.js';
import { BUCKET_VALUES } from '../../src/model/layout.js';
import { PRECISIONS } from '../../src/model/shape.js';
import { NONCE_BYTES, PROOF_BYTES } from '../../src/net/proof.js';
import { PlanSchema } from '../../src/train/run-config.js';
import { validate } from '../../src/util/validate.js';
import { MAX_FRAME_BYTES, MAX_MICRO_BATCHES, malformed } from './frame.js';
import { checkMessagePack } from './message-pack.js';

export * from './frame.js';

/** Counts every change of a message or of the frame's header, which has a version of its own besides. */
export const PROTOCOL_VERSION = 3;
/** Bytes of the salt of a coordinator's probes. */
export const PROBE_NONCE_BYTES = 32;

/** The reason of a stop that is final: `stop.final` says so to workers, this text to people. */
export const RUN_DONE = 'the run is done';

const u32 = z.number().int().min(0).max(0xffffffff);
const positive = u32.min(1);
const text = z.string().max(1000);
const microBatch = z.number().int().min(0).lt(MAX_MICRO_BATCHES);
const microBatches = z.array(microBatch).max(MAX_MICRO_BATCHES);
/** Of the largest model, with one that is not full for each of its layers' tensors at most, and the loss's. */
const MAX_BUCKETS = 2 * (BOUNDS.parameters / BUCKET_VALUES);
const buckets = z.array(u32.max(MAX_BUCKETS)).max(MAX_BUCKETS);
/** The shaders are some 150 KiB in 30 files. */
const MAX_SHADERS = 256;
const MAX_SHADER_CHARACTERS = 2 ** 18;
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'must be bytes');
const exactBytes = (length: number) => bytes.refine((b) => b.length === length, `must be ${length} bytes`);
const milliseconds = z.number().min(0).max(1e12);
const hash = z.string().regex(/^[0-9a-f]{64}$/);

/** A micro-batch and its data: [B x T] ids as `packTokens` writes them, and the slot of its first sequence. */
const ids = bytes.refine((b) => b.length <= 4 * BOUNDS.rows, `must be the ids of at most ${BOUNDS.rows} tokens`);
const MicroBatchData = z.strictObject({ microBatch, slot: u32, tokens: ids, targets: ids });
export type MicroBatchData = z.infer<typeof MicroBatchData>;

const error = z.strictObject({ type: z.literal('error'), code: text, message: text });
/** Between a browser and a coordinator, at any time after the handshake; the answer repeats the sender's clock. */
const ping = z.strictObject({ type: z.literal('ping'), at: milliseconds });
const pong = z.strictObject({ type: z.literal('pong'), at: milliseconds });

/** Messages from a worker. */
export const WORKER_MESSAGES = {
  hello: z.strictObject({
    type: z.literal('hello'),
    protocol: u32,
    /** lantrain's version. */
    version: text,
    nonce: exactBytes(NONCE_BYTES),
  }),
  proof: z.strictObject({ type: z.literal('proof'), proof: exactBytes(PROOF_BYTES) }),
  /** Asks for credit for one frame of so many bytes. */
  want: z.strictObject({ type: z.literal('want'), bytes: positive }),
  join: z.strictObject({
    type: z.literal('join'),
    name: text.min(1),
    adapter: text,
    software: z.boolean(),
    /** Whether it has no shaders of its own: a browser takes the coordinator's. */
    lacksShaders: z.boolean().optional(),
  }),
  /** Answers a probe, once. */
  hashes: z.strictObject({ type: z.literal('hashes'), probe: z.enum(['reference', 'run']), hash }),
  /** The weights of `version` are in place, every bucket's checksum verified; `version` as in frames. */
  ready: z.strictObject({ type: z.literal('ready'), version: u32 }),
  /** Buckets of `version` that came out wrong: they are needed whole. */
  mismatch: z.strictObject({ type: z.literal('mismatch'), version: u32, buckets }),
  /** Micro-batches of the assignment, in its order, that were begun and that are done. */
  progress: z.strictObject({
    type: z.literal('progress'),
    assignment: positive,
    begun: u32.max(MAX_MICRO_BATCHES),
    done: u32.max(MAX_MICRO_BATCHES),
  }),
  /** What of a reclaim had not been begun, and now never will be. */
  handedBack: z.strictObject({ type: z.literal('handedBack'), assignment: positive, microBatches }),
  /** NaN, infinity or overflow: the assignment ends without a contribution. Status as in `sums.ts`. */
  refuse: z.strictObject({ type: z.literal('refuse'), assignment: positive, microBatch, status: u32, what: text }),
  /** The sum of token losses on the grid, as two words, and the tokens that counted. */
  evaluated: z.strictObject({
    type: z.literal('evaluated'),
    assignment: positive,
    low: u32,
    high: u32,
    tokens: u32,
    finite: z.boolean(),
  }),
  /** Where the worker's time went in `step`, as it says: the coordinator credits only what it dealt and got. */
  stats: z.strictObject({
    type: z.literal('stats'),
    step: u32,
    computeMs: milliseconds,
    uploadMs: milliseconds,
    downloadMs: milliseconds,
    waitMs: milliseconds,
    tokens: u32,
  }),
  ping,
  pong,
  error,
  leave: z.strictObject({ type: z.literal('leave'), reason: text }),
} as const;

/** Messages from the coordinator. */
export const COORDINATOR_MESSAGES = {
  challenge: z.strictObject({
    type: z.literal('challenge'),
    protocol: u32,
    version: text,
    nonce: exactBytes(NONCE_BYTES),
  }),
  accepted: z.strictObject({ type: z.literal('accepted'), proof: exactBytes(PROOF_BYTES) }),
  /** So many more bytes of frames may be sent. */
  credit: z.strictObject({ type: z.literal('credit'), bytes: positive }),
  welcome: z.strictObject({
    type: z.literal('welcome'),
    worker: positive,
    incarnation: positive,
    /** The step in progress; the weights are those of `step - 1`. */
    step: positive,
    model: ModelSchema,
    plan: PlanSchema,
    /** One micro-batch: sequences, tokens of one, dropout; and whether layers are to be computed again in backward. */
    shape: z
      .strictObject({
        batch: positive,
        context: positive,
        dropout: z.number().min(0).lt(1),
        recompute: z.boolean().optional(),
        precision: z.enum(PRECISIONS).optional(),
      })
      .refine(({ batch, context }) => batch * context <= BOUNDS.rows, `must be of at most ${BOUNDS.rows} tokens`),
    seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    microBatches: positive.max(MAX_MICRO_BATCHES),
    /** The factor of each token's loss is 1 / this. */
    tokensPerStep: positive.max(BOUNDS.rows * BOUNDS.microBatches),
    /** Indices of buckets, with the loss's, which is the last. */
    buckets: positive.max(MAX_BUCKETS),
    /** Only workers of the owner's bit class may compute. */
    exact: z.boolean(),
    /** By file name without `.wgsl`, for who asked. */
    shaders: z
      .record(z.string().regex(/^[\w-]{1,100}$/), z.string().max(MAX_SHADER_CHARACTERS))
      .refine((texts) => Object.keys(texts).length <= MAX_SHADERS, `must be at most ${MAX_SHADERS}`)
      .optional(),
  }),
  /** What the probe computes with is drawn from the nonce, so that no hash of another start is an answer. */
  probe: z.strictObject({
    type: z.literal('probe'),
    probe: z.enum(['reference', 'run']),
    nonce: exactBytes(PROBE_NONCE_BYTES),
  }),
  /**
   * Micro-batches of `step`, to be computed in this order and sent up as one sum. `buckets`: those that are lacking;
   * absent, all.
   */
  assign: z.strictObject({
    type: z.literal('assign'),
    assignment: positive,
    step: positive,
    microBatches: z.array(MicroBatchData).min(1).max(MAX_MICRO_BATCHES),
    buckets: buckets.optional(),
    /** In mixed precision: the loss scale to begin with is 2 to this power. */
    scaleExponent: z.number().int().min(0).max(64).optional(),
  }),
  /** Asks for micro-batches back; answered by `handedBack` with those that were not begun. */
  reclaim: z.strictObject({ type: z.literal('reclaim'), assignment: positive, microBatches }),
  /** The assignment is over: nothing more of it counts. */
  fence: z.strictObject({ type: z.literal('fence'), assignment: positive, reason: text }),
  /** The bucket of the assignment arrived damaged. */
  resend: z.strictObject({ type: z.literal('resend'), assignment: positive, bucket: u32 }),
  /** The contribution is in the sum (or never will be): its buffers may be reused. */
  taken: z.strictObject({ type: z.literal('taken'), assignment: positive, bucket: u32 }),
  /** The step is complete: the differences of version `step` take effect. */
  commit: z.strictObject({ type: z.literal('commit'), step: positive }),
  /** Losses without dropout by the weights of `version`. */
  evaluate: z.strictObject({
    type: z.literal('evaluate'),
    assignment: positive,
    version: u32,
    microBatches: z.array(MicroBatchData).min(1).max(MAX_MICRO_BATCHES),
  }),
  /** Frames of `version` follow: all buckets whole to who joins, else differences from the version before. */
  weights: z.strictObject({
    type: z.literal('weights'),
    version: u32,
    mode: z.enum(['whole', 'difference']),
    buckets: buckets.optional(),
  }),
  pause: z.strictObject({ type: z.literal('pause'), reason: text }),
  /** After a `final` one a worker does not come back: the run is done. */
  stop: z.strictObject({ type: z.literal('stop'), reason: text, final: z.boolean() }),
  ping,
  pong,
  error,
} as const;

type Union<T extends Record<string, z.ZodType>> = { [K in keyof T]: z.infer<T[K]> }[keyof T];
export type WorkerMessage = Union<typeof WORKER_MESSAGES>;
export type CoordinatorMessage = Union<typeof COORDINATOR_MESSAGES>;
export type Message = WorkerMessage | CoordinatorMessage;
export type Welcome = z.infer<typeof COORDINATOR_MESSAGES.welcome>;
export type Assign = z.infer<typeof COORDINATOR_MESSAGES.assign>;

/** A table of handlers, one a message type: adding a message is adding a row. */
export type Handlers<M extends Message> = { readonly [K in M['type']]?: (message: Extract<M, { type: K }>) => void };

/** Calls the handler of the message's type; false when the table has none. */
export function dispatch<M extends Message>(handlers: Handlers<M>, message: M): boolean {
  const handler = (handlers as Record<string, ((message: M) => void) | undefined>)[message.type];
  handler?.(message);
  return handler !== undefined;
}

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: false });

export function encodeMessage(message: Message): Uint8Array {
  return packr.pack(message);
}

function unpack(message: Uint8Array): unknown {
  checkMessagePack(message);
  try {
    return packr.unpack(message);
  } catch (cause) {
    throw malformed('it is not MessagePack', cause);
  }
}

const Version = z.object({ type: z.enum(['hello', 'challenge']), protocol: u32, version: text });

/** The versions that a first message names, whatever else that version says in it. */
export function peekVersion(message: Uint8Array): { readonly protocol: number; readonly version: string } {
  const result = Version.safeParse(unpack(message));
  if (!result.success) throw malformed('it does not start as lantrain does');
  return result.data;
}

function decode(schemas: Record<string, z.ZodType>, message: Uint8Array): unknown {
  const value = unpack(message);
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined;
  const schema = typeof type === 'string' && Object.hasOwn(schemas, type) ? schemas[type] : undefined;
  if (schema === undefined) throw malformed('its type is unknown');
  const result = validate(schema, value);
  if (!result.ok) throw malformed(`${type}: ${result.wrong}`.slice(0, 200));
  return result.data;
}

/** Throws LT_CLUSTER_MALFORMED for anything but a message that a worker may send. */
export function decodeWorkerMessage(message: Uint8Array): WorkerMessage {
  return decode(WORKER_MESSAGES, message) as WorkerMessage;
}

/** Throws LT_CLUSTER_MALFORMED for anything but a message that a coordinator may send. */
export function decodeCoordinatorMessage(message: Uint8Array): CoordinatorMessage {
  return decode(COORDINATOR_MESSAGES, message) as CoordinatorMessage;
}

/** What the ids of one message may take, so that it stays one with the rest of it. */
export const MAX_TOKEN_BYTES = MAX_FRAME_BYTES - 2 ** 18;

/** Bytes of a micro-batch's ids and targets. */
export function tokenBytes(vocabSize: number, tokens: number): number {
  return 2 * packTokens(new Uint32Array(1), vocabSize).length * tokens;
}

/** Ids in 2 little-endian bytes where they fit, else 4; an ignored target is the largest number. */
export function packTokens(ids: Uint32Array, vocabSize: number): Uint8Array {
  const words = vocabSize <= 0xffff ? Uint16Array.from(ids) : ids.slice();
  return new Uint8Array(words.buffer);
}

/**
 * Reverses `packTokens`. Throws LT_CLUSTER_MALFORMED unless there are `length` ids below the vocabulary's size, or (with
 * `ignorable`) targets that are ignored.
 */
export function unpackTokens(packed: Uint8Array, vocabSize: number, length: number, ignorable = false): Uint32Array {
  const width = vocabSize <= 0xffff ? 2 : 4;
  if (packed.length !== length * width) throw malformed(`${packed.length} bytes for ${length} tokens`);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const result = new Uint32Array(length);
  for (let i = 0; i < length; i++) {
    const id = width === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
    const ignored = ignorable && id === (width === 2 ? 0xffff : IGNORED_TARGET);
    if (id >= vocabSize && !ignored) throw malformed(`token ${id} of a vocabulary of ${vocabSize}`);
    result[i] = ignored ? IGNORED_TARGET : id;
  }
  return result;
}
