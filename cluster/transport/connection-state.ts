import type { LantrainError } from '../../src/errors.js';
import type { Handlers, Message } from '../protocol/protocol.js';

/** The waiting caller of `receive` during the handshake. */
export interface Receiver {
  readonly resolve: (message: Uint8Array) => void;
  readonly reject: (error: LantrainError) => void;
}

/**
 * States of a connection:
 *
 *     handshake - authenticated() -> waiting - onControl is set -> open
 *         |                             |                            |
 *         +-----------------------------+----------------------------+----> closed
 */
export type ConnectionState<In extends Message> =
  /** Messages go to `receiver` one by one, or into the inbox while there is none. */
  | { readonly name: 'handshake'; receiver?: Receiver }
  /** Both sides are authenticated. Messages wait in the inbox. */
  | { readonly name: 'waiting' }
  | { readonly name: 'open'; readonly handlers: Handlers<In> }
  /** `lateBytes`: bytes that may still arrive, because granted ones may be on their way. */
  | { readonly name: 'closed'; readonly why: LantrainError; lateBytes: number };
