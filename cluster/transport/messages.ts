/**
 * Messages of the transport itself: the handshake, credit and pings. Messages about the run are in
 * `protocol/protocol.ts`.
 *
 *     worker                              coordinator
 *     hello (nonce, version)       ->
 *                                  <-     challenge (nonce, version)
 *     proof (HMAC of both nonces)  ->
 *                                  <-     accepted (its own HMAC: it knows the token too)
 *     want (bytes)                 ->
 *                                  <-     credit (bytes)
 *     ping                        <->     pong
 */
import { z } from 'zod';
import { NONCE_BYTES, PROOF_BYTES } from '../../src/net/proof.js';
import { decode, encode, type MessageOf, unpack } from '../protocol/codec.js';
import { exactBytes, milliseconds, positive, text, u32 } from '../protocol/fields.js';
import { malformed } from '../protocol/malformed.js';
import { COORDINATOR_MESSAGES, type Message, WORKER_MESSAGES } from '../protocol/protocol.js';

/** Between a browser and a coordinator, at any time after the handshake. `pong` repeats the `at` of its `ping`. */
const ping = z.strictObject({ type: z.literal('ping'), at: milliseconds });
const pong = z.strictObject({ type: z.literal('pong'), at: milliseconds });
const proof = exactBytes(PROOF_BYTES);
/** `protocol`: the protocol's version. `version`: lantrain's. */
const versions = { protocol: u32, version: text };

export const WORKER_TRANSPORT = {
  hello: z.strictObject({ type: z.literal('hello'), ...versions, nonce: exactBytes(NONCE_BYTES) }),
  proof: z.strictObject({ type: z.literal('proof'), proof }),
  /** Asks for credit for one frame of `bytes` bytes. */
  want: z.strictObject({ type: z.literal('want'), bytes: positive }),
  ping,
  pong,
} as const;

export const COORDINATOR_TRANSPORT = {
  challenge: z.strictObject({ type: z.literal('challenge'), ...versions, nonce: exactBytes(NONCE_BYTES) }),
  accepted: z.strictObject({ type: z.literal('accepted'), proof }),
  /** `bytes` more bytes of frames may be sent. */
  credit: z.strictObject({ type: z.literal('credit'), bytes: positive }),
  ping,
  pong,
} as const;

export type TransportMessage = MessageOf<typeof WORKER_TRANSPORT> | MessageOf<typeof COORDINATOR_TRANSPORT>;

const FROM_WORKER = { ...WORKER_TRANSPORT, ...WORKER_MESSAGES };
const FROM_COORDINATOR = { ...COORDINATOR_TRANSPORT, ...COORDINATOR_MESSAGES };
export type FromWorker = MessageOf<typeof FROM_WORKER>;
export type FromCoordinator = MessageOf<typeof FROM_COORDINATOR>;

export function isOfTransport<M extends Message>(message: M | TransportMessage): message is TransportMessage {
  return Object.hasOwn(WORKER_TRANSPORT, message.type) || Object.hasOwn(COORDINATOR_TRANSPORT, message.type);
}

export function encodeMessage(message: FromWorker | FromCoordinator): Uint8Array {
  return encode(message);
}

/** Decodes a message that a worker may send. Throws LT_CLUSTER_MALFORMED for anything else. */
export function decodeWorkerMessage(message: Uint8Array): FromWorker {
  return decode(FROM_WORKER, message);
}

/** Decodes a message that a coordinator may send. Throws LT_CLUSTER_MALFORMED for anything else. */
export function decodeCoordinatorMessage(message: Uint8Array): FromCoordinator {
  return decode(FROM_COORDINATOR, message);
}

const FirstMessage = z.object({ type: z.enum(['hello', 'challenge']), ...versions });

/** The versions in a first message; ignores all other fields, which another protocol version may change. */
export function peekVersion(message: Uint8Array): { readonly protocol: number; readonly version: string } {
  const result = FirstMessage.safeParse(unpack(message));
  if (!result.success) throw malformed('it does not start as lantrain does');
  return result.data;
}
