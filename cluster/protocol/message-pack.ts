import { malformed } from './malformed.js';

const MAX_DEPTH = 8;

/** The meaning of a lead byte from 0xc0 on: the number of bytes that follow, or the size of a length. */
type Lead =
  | { readonly skip: number }
  | { readonly length: 1 | 2 | 4; readonly of: 'bytes' | 'array' | 'map' }
  | undefined;

const LEADS: readonly Lead[] = [
  { skip: 0 }, // nil
  undefined,
  { skip: 0 }, // false
  { skip: 0 }, // true
  { length: 1, of: 'bytes' }, // bin 8 .. 32
  { length: 2, of: 'bytes' },
  { length: 4, of: 'bytes' },
  undefined, // ext 8 .. 32
  undefined,
  undefined,
  { skip: 4 }, // float 32, 64
  { skip: 8 },
  { skip: 1 }, // uint 8 .. 64
  { skip: 2 },
  { skip: 4 },
  { skip: 8 },
  { skip: 1 }, // int 8 .. 64
  { skip: 2 },
  { skip: 4 },
  { skip: 8 },
  undefined, // fixext 1 .. 16
  undefined,
  undefined,
  undefined,
  undefined,
  { length: 1, of: 'bytes' }, // str 8 .. 32
  { length: 2, of: 'bytes' },
  { length: 4, of: 'bytes' },
  { length: 2, of: 'array' },
  { length: 4, of: 'array' },
  { length: 2, of: 'map' },
  { length: 4, of: 'map' },
];

/**
 * Throws LT_CLUSTER_MALFORMED unless the bytes are one MessagePack map of plain values. Call before a library decodes
 * them. A library that trusts lengths, knows extensions (msgpackr has records, references and code) or allows deep
 * nesting may use far more memory than the message has. https://github.com/msgpack/msgpack/blob/master/spec.md
 */
export function checkMessagePack(message: Uint8Array): void {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let at = 0;

  const take = (count: number): number => {
    const start = at;
    at += count;
    if (at > message.length) throw malformed('it ends too early');
    return start;
  };
  const several = (count: number, depth: number): void => {
    // A false count soon reaches the end of the message.
    for (let i = 0; i < count; i++) value(depth + 1);
  };
  const long = (lead: Lead, depth: number): void => {
    if (lead === undefined) throw malformed('it holds more than plain values');
    const from = take('skip' in lead ? lead.skip : lead.length);
    if ('skip' in lead) return;
    const count =
      lead.length === 1 ? view.getUint8(from) : lead.length === 2 ? view.getUint16(from) : view.getUint32(from);
    if (lead.of === 'bytes') take(count);
    else several(lead.of === 'map' ? 2 * count : count, depth);
  };
  const value = (depth: number): void => {
    if (depth > MAX_DEPTH) throw malformed('it is nested too deep');
    const lead = message[take(1)];
    if (lead < 0x80 || lead >= 0xe0) return;
    if (lead < 0x90) several(2 * (lead & 0x0f), depth);
    else if (lead < 0xa0) several(lead & 0x0f, depth);
    else if (lead < 0xc0) take(lead & 0x1f);
    else long(LEADS[lead - 0xc0], depth);
  };

  const first = message[0];
  if (first === undefined || ((first & 0xf0) !== 0x80 && first !== 0xde && first !== 0xdf))
    throw malformed('it is neither a frame nor a map');
  value(0);
  if (at !== message.length) throw malformed('bytes follow its end');
}
