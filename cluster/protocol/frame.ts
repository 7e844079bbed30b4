/**
 * Payload frames: gradients up, weights down. One WebSocket message each, all fields little-endian:
 *
 *     0   u32 magic 'LTFR'    4   u16 frame version      6   u8 kind          7   u8 zero
 *     8   u32 incarnation     12  u32 assignment         16  u32 step         20  u32 bucket
 *     24  u32 payload bytes   28  u32 payload checksum a 32  u32 checksum b   36  u32 header checksum
 *     40  128 bytes: a contribution's set of micro-batches, bit m % 8 of byte m / 8 is micro-batch m
 *         or weights: u32 base version, u32 checksum a of the whole new bucket, u32 checksum b, i32 exponent, zeros
 *     168 payload, a multiple of 4 bytes
 *
 * A control message starts with a MessagePack map, whose first byte is never the 'L' of the magic.
 */
import { BUCKET_VALUES } from '../../src/model/layout.js';
import { type Checksum, equalChecksums, payloadChecksum } from '../exchange/checksum.js';
import { type IdSet, isEmpty, lastOf, MAX_MICRO_BATCHES, setWords } from '../round/sets.js';
import { malformed } from './malformed.js';

export const FRAME_VERSION = 3;
export const HEADER_BYTES = 168;
/**
 * The payload of a bucket of 64-bit sums with 8 bytes for every value. The rest covers headers and the widths of blocks, and
 * in the low wire the whole last block. Whole weights with their grid bytes take less.
 */
export const MAX_PAYLOAD_BYTES = BUCKET_VALUES * 8 + 16384;
export const MAX_FRAME_BYTES = HEADER_BYTES + MAX_PAYLOAD_BYTES;

const MAGIC = 0x5246544c;
const SET_AT = 40;
const SET_WORDS = setWords(MAX_MICRO_BATCHES);
const HEADER_CHECKSUM_AT = 36;

export const FRAME_KINDS = ['contribution', 'weights-whole', 'weights-difference'] as const;
export type FrameKind = (typeof FRAME_KINDS)[number];

interface FrameAddress {
  /** Number of the coordinator's start of the run. */
  readonly incarnation: number;
  /** The worker's assignment; 0 for weights. */
  readonly assignment: number;
  readonly bucket: number;
}

/** One worker's packed gradient sum over `microBatches`, for one bucket of `step`. */
export interface ContributionHeader extends FrameAddress {
  readonly kind: 'contribution';
  readonly step: number;
  readonly microBatches: IdSet;
}

/** One bucket of the weights after `step`, whole or as differences from those after `base`. */
export interface WeightsHeader extends FrameAddress {
  readonly kind: 'weights-whole' | 'weights-difference';
  /** The version of the weights: the last step behind them; 0 before the first. */
  readonly step: number;
  readonly base: number;
  /** Checksum of the whole new bucket, unpacked. */
  readonly weights: Checksum;
  /** F of differences in the low wire: the moves in the payload are in units of 2^F. 0 in all other frames. */
  readonly exponent: number;
}

export type FrameHeader = ContributionHeader | WeightsHeader;

/** The exponents that differences can have. */
export const LEAST_MOVE_EXPONENT = -60;
export const MOST_MOVE_EXPONENT = 40;

/** Bounds of a frame's fields. A value beyond them is impossible, not stale. */
export interface FrameContext {
  readonly incarnation: number;
  /** Number of buckets, including the loss. */
  readonly buckets: number;
  /** Number of micro-batches of a global batch. */
  readonly microBatches: number;
  /** Frame kinds that this side accepts. */
  readonly kinds: readonly FrameKind[];
}

export interface Frame<H extends FrameHeader = FrameHeader> {
  readonly header: H;
  /** A view into the message, aligned to 4 bytes. */
  readonly payload: Uint8Array;
  readonly payloadChecksum: Checksum;
  /** Size of the whole message in bytes. */
  readonly bytes: number;
}

export function isFrame(message: Uint8Array): boolean {
  return message.length > 0 && message[0] === (MAGIC & 0xff);
}

/**
 * Allocates a message with room for the header in front: fill `payload`, then seal. Both are views of one buffer.
 * Throws RangeError for a bad size.
 */
export function allocateFrame(payloadBytes: number): { readonly message: Uint8Array; readonly payload: Uint8Array } {
  if (payloadBytes % 4 !== 0 || payloadBytes > MAX_PAYLOAD_BYTES)
    throw new RangeError(`a payload of ${payloadBytes} bytes: at most ${MAX_PAYLOAD_BYTES}, a multiple of 4`);
  const message = new Uint8Array(HEADER_BYTES + payloadBytes);
  return { message, payload: message.subarray(HEADER_BYTES) };
}

/** Writes the header, with both checksums, in front of a payload from `allocateFrame`. */
export function sealFrame(message: Uint8Array, header: FrameHeader): void {
  const payload = message.subarray(HEADER_BYTES);
  writeHeader(message, header, payload.length, payloadChecksum(payload));
}

/** A sealed message with a copy of `payload`. */
export function encodeFrame(header: FrameHeader, payload: Uint8Array): Uint8Array {
  const frame = allocateFrame(payload.length);
  frame.payload.set(payload);
  sealFrame(frame.message, header);
  return frame.message;
}

function writeHeader(message: Uint8Array, header: FrameHeader, payloadBytes: number, payload: Checksum): void {
  const view = new DataView(message.buffer, message.byteOffset, HEADER_BYTES);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, FRAME_VERSION, true);
  view.setUint8(6, FRAME_KINDS.indexOf(header.kind));
  view.setUint8(7, 0);
  view.setUint32(8, header.incarnation, true);
  view.setUint32(12, header.assignment, true);
  view.setUint32(16, header.step, true);
  view.setUint32(20, header.bucket, true);
  view.setUint32(24, payloadBytes, true);
  view.setUint32(28, payload.a, true);
  view.setUint32(32, payload.b, true);
  message.fill(0, SET_AT, HEADER_BYTES);
  if (header.kind === 'contribution') message.set(bytesOfSet(header.microBatches), SET_AT);
  else {
    view.setUint32(SET_AT, header.base, true);
    view.setUint32(SET_AT + 4, header.weights.a, true);
    view.setUint32(SET_AT + 8, header.weights.b, true);
    view.setInt32(SET_AT + 12, header.exponent, true);
  }
  view.setUint32(HEADER_CHECKSUM_AT, headerChecksum(message), true);
}

/** Checksum of all words of the header except the checksum's own. */
function headerChecksum(message: Uint8Array): number {
  const header = new Uint8Array(message.subarray(0, HEADER_BYTES));
  header.fill(0, HEADER_CHECKSUM_AT, HEADER_CHECKSUM_AT + 4);
  const { a, b } = payloadChecksum(header);
  return (a ^ b) >>> 0;
}

/**
 * Reads a frame and checks every field of its header. Throws LT_CLUSTER_MALFORMED for impossible values. The caller
 * checks for stale ones (an earlier incarnation or step, an assignment that is over). The payload's checksum is not
 * checked here, but by the thread that adds it or digests it, or by `payloadIntact`.
 */
export function decodeFrame(message: Uint8Array, context: FrameContext): Frame {
  if (message.length < HEADER_BYTES) throw malformed(`a frame of ${message.length} bytes has no header`);
  const view = new DataView(message.buffer, message.byteOffset, HEADER_BYTES);
  const u32 = (at: number) => view.getUint32(at, true);
  if (u32(0) !== MAGIC) throw malformed('it does not start as a frame does');
  const version = view.getUint16(4, true);
  if (version !== FRAME_VERSION) throw malformed(`frame version ${version}, this side speaks ${FRAME_VERSION}`);
  if (u32(HEADER_CHECKSUM_AT) !== headerChecksum(message)) throw malformed('its header does not match its checksum');
  const kind = FRAME_KINDS[view.getUint8(6)];
  if (kind === undefined || !context.kinds.includes(kind) || view.getUint8(7) !== 0)
    throw malformed(`frame kind ${kind ?? view.getUint8(6)} has no business here`);
  const incarnation = u32(8);
  if (incarnation > context.incarnation || incarnation === 0)
    throw malformed(`incarnation ${incarnation}, the run is in ${context.incarnation}`);
  const bucket = u32(20);
  if (bucket >= context.buckets) throw malformed(`bucket ${bucket} of ${context.buckets}`);
  const payloadBytes = u32(24);
  if (payloadBytes !== message.length - HEADER_BYTES || payloadBytes % 4 !== 0)
    throw malformed(`a payload of ${message.length - HEADER_BYTES} bytes that says it has ${payloadBytes}`);
  const address = { incarnation, assignment: u32(12), step: u32(16), bucket };
  const rest = message.subarray(SET_AT, HEADER_BYTES);
  return {
    header: kind === 'contribution' ? contribution(address, rest, context) : weights(kind, address, rest),
    payload: aligned(message.subarray(HEADER_BYTES)),
    payloadChecksum: { a: u32(28), b: u32(32) },
    bytes: message.length,
  };
}

type Address = FrameAddress & { readonly step: number };

/** The bytes of a set, which are those of the header: words are little-endian wherever WebGPU runs. */
function bytesOfSet(set: IdSet): Uint8Array {
  if (set.length > SET_WORDS) throw new RangeError(`a set of ${set.length} words: a header holds ${SET_WORDS}`);
  return new Uint8Array(set.buffer, set.byteOffset, set.byteLength);
}

function contribution(address: Address, rest: Uint8Array, context: FrameContext): ContributionHeader {
  const microBatches = new Uint32Array(SET_WORDS);
  bytesOfSet(microBatches).set(rest);
  if (isEmpty(microBatches)) throw malformed('a contribution without micro-batches');
  const last = lastOf(microBatches);
  if (last >= context.microBatches) throw malformed(`micro-batch ${last} of ${context.microBatches}`);
  if (address.step === 0 || address.assignment === 0) throw malformed('steps and assignments count from 1');
  return { kind: 'contribution', ...address, microBatches };
}

function weights(kind: WeightsHeader['kind'], address: Address, rest: Uint8Array): WeightsHeader {
  const view = new DataView(rest.buffer, rest.byteOffset, rest.byteLength);
  const base = view.getUint32(0, true);
  const exponent = view.getInt32(12, true);
  if (rest.subarray(16).some((byte) => byte !== 0)) throw malformed('bytes that must be zero are not');
  if (kind === 'weights-whole' ? base !== 0 : base >= address.step)
    throw malformed(`weights of step ${address.step} cannot be told from those of step ${base}`);
  const [least, most] = kind === 'weights-whole' ? [0, 0] : [LEAST_MOVE_EXPONENT, MOST_MOVE_EXPONENT];
  if (exponent < least || exponent > most) throw malformed(`the exponent ${exponent} of ${kind}`);
  return { kind, ...address, base, weights: { a: view.getUint32(4, true), b: view.getUint32(8, true) }, exponent };
}

/** Small messages can lie at any offset of a chunk from the socket; words need an alignment of 4. */
function aligned(payload: Uint8Array): Uint8Array {
  return payload.byteOffset % 4 === 0 ? payload : new Uint8Array(payload);
}

/** Whether the payload has the sender's checksum. */
export function payloadIntact(frame: Pick<Frame, 'payload' | 'payloadChecksum'>): boolean {
  return equalChecksums(payloadChecksum(frame.payload), frame.payloadChecksum);
}
