/**
 * Messages between coordinator and workers about a run. Both sides, in Node and in a browser, import this file.
 *
 *     worker                              coordinator
 *     (handshake of the transport)
 *     join (name, adapter)         ->
 *                                  <-     welcome (the run), probe ...
 *     probed (hash) ...            ->
 *                                  <-     admit (version), then frames with every bucket whole
 *     ready                        ->
 *                                  <-     assign or evaluate (tokens)
 *     progress, frames             ->
 *     evaluated                    ->
 *     handed-back, refused         ->
 *                                  <-     hand-back, revoke, frames with differences, commit
 *     leave                        ->
 *                                  <-     stop (reason)
 *
 * Control messages are maps in MessagePack (`codec.ts`). Frames (`frame.ts`) carry gradients and weights. The
 * handshake, credit and pings belong to the transport (`transport/messages.ts`).
 *
 * Words. A thing has one name in the round (`round/events.ts`), on the wire and in the worker. Message types, events
 * and actions are written in kebab case. The coordinator says what to do (`assign`, `hand-back`); an answer is the past
 * participle (`handed-back`).
 *
 *     assign       deals a worker an assignment: micro-batches of a step, to be summed and contributed
 *     evaluate     deals an assignment of an evaluation: the sum of losses alone, which `evaluated` answers
 *     contribution one worker's sum over an assignment, for one bucket; a frame
 *     hand-back    asks for micro-batches of an assignment that have not begun; `handed-back` gives them up
 *     refused      micro-batches that are not finite: the assignment ends without a contribution
 *     revoke       voids an assignment: nothing of it counts any more
 *     fence        shuts a worker out for a while because it did not do its work; never on the wire
 *     mismatch     buckets whose weights are wrong at a worker: it needs them whole
 *     admit        makes a worker a member and tells it the committed version
 *     commit       makes the weights after a step the weights
 *     stop         ends the connection; `reason` says why, `final` whether a worker may come back
 */
import { z } from 'zod';
import { BOUNDS, ModelSchema } from '../../src/model/config.js';
import { BUCKET_VALUES } from '../../src/model/layout.js';
import { PRECISIONS } from '../../src/model/precision.js';
import { WIRES } from '../../src/model/wire.js';
import { PlanSchema } from '../../src/train/run-config.js';
import { MAX_MICRO_BATCHES } from '../round/sets.js';
import type { MessageOf } from './codec.js';
import { bytes, exactBytes, milliseconds, positive, text, u32 } from './fields.js';
import { malformed } from './malformed.js';

/**
 * Counts every change of a message, including the transport's, and of the frame's header (which also has its own
 * version).
 */
export const PROTOCOL_VERSION = 5;
/** Size of the salt of a coordinator's probes in bytes. */
export const PROBE_NONCE_BYTES = 32;

/** Why a coordinator stops its workers, in words for people. */
export const END_REASONS = {
  done: 'the run is done',
  stopped: 'the run was stopped',
  failed: 'it failed',
  /** A benchmark ends one run and begins another. */
  'next-measurement': 'the next measurement begins',
} as const;
export type EndReason = keyof typeof END_REASONS;

const microBatch = z.number().int().min(0).lt(MAX_MICRO_BATCHES);
const microBatches = z.array(microBatch).max(MAX_MICRO_BATCHES);
/** Enough buckets for the largest model, including shorter ones at the ends of buffers, and the loss. */
const MAX_BUCKETS = 2 * (BOUNDS.parameters / BUCKET_VALUES);
const buckets = z.array(u32.max(MAX_BUCKETS)).max(MAX_BUCKETS);
/** The shaders have about 150 KiB in 30 files. */
const MAX_SHADERS = 256;
const MAX_SHADER_CHARACTERS = 2 ** 18;
const hash = z.string().regex(/^[0-9a-f]{64}$/);
const probe = z.enum(['reference', 'run']);

/** A window of ids for each sequence, as written by `packWindows`. The shortest windows have 2 ids a token. */
const ids = bytes.refine((b) => b.length <= 8 * BOUNDS.rows, `must be the ids of at most ${BOUNDS.rows} tokens`);
/** `slot`: of the first sequence. */
const MicroBatchData = z.strictObject({ microBatch, slot: u32, ids });
export type MicroBatchData = z.infer<typeof MicroBatchData>;

/** Messages from a worker. */
export const WORKER_MESSAGES = {
  join: z.strictObject({
    type: z.literal('join'),
    name: text.min(1),
    adapter: text,
    /** It has no shaders of its own: a browser gets the coordinator's. */
    lacksShaders: z.boolean().optional(),
  }),
  /** Answers one probe. */
  probed: z.strictObject({ type: z.literal('probed'), probe, hash }),
  /** All weights of the newest version are loaded, and every bucket's checksum is verified. */
  ready: z.strictObject({ type: z.literal('ready') }),
  /** Buckets whose weights are wrong: they must be sent whole. */
  mismatch: z.strictObject({ type: z.literal('mismatch'), buckets }),
  /** Number of the assignment's micro-batches, in its order, that have begun and that are done. */
  progress: z.strictObject({
    type: z.literal('progress'),
    assignment: positive,
    begun: u32.max(MAX_MICRO_BATCHES),
    done: u32.max(MAX_MICRO_BATCHES),
  }),
  /** The micro-batches of a `hand-back` that had not begun. The worker will not compute them. */
  'handed-back': z.strictObject({ type: z.literal('handed-back'), assignment: positive, microBatches }),
  /** NaN, infinity or overflow: the assignment ends without a contribution. `what`: names of the first such tensors. */
  refused: z.strictObject({ type: z.literal('refused'), assignment: positive, microBatch, what: text }),
  /** The sum of token losses of `microBatches` in fixed point, as two words. */
  evaluated: z.strictObject({
    type: z.literal('evaluated'),
    assignment: positive,
    microBatches,
    low: u32,
    high: u32,
    finite: z.boolean(),
  }),
  /**
   * Where the worker's time went since its last `stats`. For display only: the coordinator counts a worker's share by
   * what it dealt and received.
   */
  stats: z.strictObject({
    type: z.literal('stats'),
    computeMs: milliseconds,
    uploadMs: milliseconds,
    downloadMs: milliseconds,
    waitMs: milliseconds,
  }),
  leave: z.strictObject({ type: z.literal('leave'), reason: text }),
} as const;

/** Messages from the coordinator. */
export const COORDINATOR_MESSAGES = {
  welcome: z.strictObject({
    type: z.literal('welcome'),
    worker: positive,
    incarnation: positive,
    /** The current step; the weights have version `step - 1`. */
    step: positive,
    model: ModelSchema,
    plan: PlanSchema,
    /**
     * Shape of a micro-batch: sequences, tokens of a sequence, dropout, whether backward computes layers again, arithmetic and
     * wire. The wire decides what payloads of frames look like.
     */
    shape: z
      .strictObject({
        batch: positive,
        context: positive,
        dropout: z.number().min(0).lt(1),
        recompute: z.boolean().optional(),
        precision: z.enum(PRECISIONS).optional(),
        wire: z.enum(WIRES).optional(),
      })
      .refine(({ batch, context }) => batch * context <= BOUNDS.rows, `must be of at most ${BOUNDS.rows} tokens`),
    seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    microBatches: positive.max(MAX_MICRO_BATCHES),
    /** Each token's loss is weighted by 1 / this. */
    tokensPerStep: positive.max(BOUNDS.rows * BOUNDS.microBatches),
    /** Number of buckets, including the loss, which is the last. */
    buckets: positive.max(MAX_BUCKETS),
    /** Shader texts by file name without `.wgsl`, for a worker that lacks them. */
    shaders: z
      .record(z.string().regex(/^[\w-]{1,100}$/), z.string().max(MAX_SHADER_CHARACTERS))
      .refine((texts) => Object.keys(texts).length <= MAX_SHADERS, `must be at most ${MAX_SHADERS}`)
      .optional(),
  }),
  /** The probe's inputs are derived from the nonce, so hashes of another start are no answer. */
  probe: z.strictObject({ type: z.literal('probe'), probe, nonce: exactBytes(PROBE_NONCE_BYTES) }),
  /** The worker is admitted. The committed weights have version `version`; each bucket follows whole. */
  admit: z.strictObject({ type: z.literal('admit'), version: u32 }),
  /**
   * Micro-batches of `step`, to be computed in this order and uploaded as one sum. `buckets`: the lacking ones; absent:
   * all.
   */
  assign: z.strictObject({
    type: z.literal('assign'),
    assignment: positive,
    step: positive,
    microBatches: z.array(MicroBatchData).min(1).max(MAX_MICRO_BATCHES),
    buckets: buckets.optional(),
    /** Mixed precision only: log2 of the first loss scale to try. */
    scaleExponent: z.number().int().min(0).max(64).optional(),
  }),
  /** Asks for losses without dropout, with the weights of `version`. */
  evaluate: z.strictObject({
    type: z.literal('evaluate'),
    assignment: positive,
    version: u32,
    microBatches: z.array(MicroBatchData).min(1).max(MAX_MICRO_BATCHES),
  }),
  /** Asks for micro-batches back; `handed-back` answers with those that had not begun. */
  'hand-back': z.strictObject({ type: z.literal('hand-back'), assignment: positive, microBatches }),
  /** The assignment is void: nothing of it counts any more. */
  revoke: z.strictObject({ type: z.literal('revoke'), assignment: positive }),
  /** The step is complete: weights of version `step` take effect. */
  commit: z.strictObject({ type: z.literal('commit'), step: positive }),
  /** The connection ends. After a `final` stop a worker does not come back. */
  stop: z.strictObject({
    type: z.literal('stop'),
    reason: z.enum(Object.keys(END_REASONS) as [EndReason, ...EndReason[]]),
    final: z.boolean(),
  }),
} as const;

export type WorkerMessage = MessageOf<typeof WORKER_MESSAGES>;
export type CoordinatorMessage = MessageOf<typeof COORDINATOR_MESSAGES>;
export type Message = WorkerMessage | CoordinatorMessage;
export type MessageFromWorker<T extends WorkerMessage['type']> = Extract<WorkerMessage, { type: T }>;
export type MessageFromCoordinator<T extends CoordinatorMessage['type']> = Extract<CoordinatorMessage, { type: T }>;
export type Welcome = MessageFromCoordinator<'welcome'>;
export type Assign = MessageFromCoordinator<'assign'>;

/** A stop message. It is `final` only if the run is done. */
export function stopBecause(reason: EndReason): MessageFromCoordinator<'stop'> {
  return { type: 'stop', reason, final: reason === 'done' };
}

/** A table of handlers, one for each message type: a type without a row does not compile. */
export type Handlers<M extends Message> = { readonly [K in M['type']]: (message: Extract<M, { type: K }>) => void };

/** Calls the handler of the message's type. */
export function dispatch<M extends Message>(handlers: Handlers<M>, message: M): void {
  const handler = handlers[message.type as M['type']] as (message: M) => void;
  handler(message);
}

/** Handlers for a side that accepts only these messages. Any other closes the connection as malformed. */
export function onlyFromWorker(some: Partial<Handlers<WorkerMessage>>): Handlers<WorkerMessage> {
  return { ...refusing<WorkerMessage>(WORKER_MESSAGES), ...some };
}

/** Like `onlyFromWorker`, for messages from the coordinator. */
export function onlyFromCoordinator(some: Partial<Handlers<CoordinatorMessage>>): Handlers<CoordinatorMessage> {
  return { ...refusing<CoordinatorMessage>(COORDINATOR_MESSAGES), ...some };
}

function refusing<M extends Message>(schemas: Readonly<Record<M['type'], unknown>>): Handlers<M> {
  const refuse = ({ type }: Message): never => {
    throw malformed(`${type} has no business here`);
  };
  return Object.fromEntries(Object.keys(schemas).map((type) => [type, refuse])) as unknown as Handlers<M>;
}
