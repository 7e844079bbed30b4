/** Encodes control messages as MessagePack maps, and checks each decoded one against the schema of its type. */
import { Packr } from 'msgpackr/pack';
import type { z } from 'zod';
import { validate } from '../../src/util/validate.js';
import { malformed } from './malformed.js';
import { checkMessagePack } from './message-pack.js';

/** Schemas by message type. */
export type Schemas = Readonly<Record<string, z.ZodType>>;
/** The messages of a table of schemas; a message's `type` is its key in the table. */
export type MessageOf<S extends Schemas> = { [K in keyof S]: z.infer<S[K]> }[keyof S];

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: false });

export function encode(message: { readonly type: string }): Uint8Array {
  return packr.pack(message);
}

/** Unpacks one message, which is a map; nothing else about it is checked. Throws LT_CLUSTER_MALFORMED. */
export function unpack(message: Uint8Array): unknown {
  checkMessagePack(message);
  try {
    return packr.unpack(message);
  } catch (cause) {
    throw malformed('it is not MessagePack', cause);
  }
}

/** Decodes a message of `schemas`. Throws LT_CLUSTER_MALFORMED for anything else. */
export function decode<S extends Schemas>(schemas: S, message: Uint8Array): MessageOf<S> {
  const value = unpack(message);
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : undefined;
  const schema = typeof type === 'string' && Object.hasOwn(schemas, type) ? schemas[type] : undefined;
  if (schema === undefined) throw malformed('its type is unknown');
  const result = validate(schema, value);
  if (!result.ok) throw malformed(`${type}: ${result.wrong}`.slice(0, 200));
  return result.data as MessageOf<S>;
}
