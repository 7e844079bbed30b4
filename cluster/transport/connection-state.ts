import type { LantrainError } from '../../src/errors.js';
import type { Handlers, Message } from '../protocol/protocol.js';

/** Whoever waits for the next message of the handshake. */
export interface Receiver {
  readonly resolve: (message: Uint8Array) => void;
  readonly reject: (error: LantrainError) => void;
}

/**
 * How far a connection is:
 *
 *     handshake - authenticated() -> waiting - onControl is set -> open
 *         |                             |                            |
 *         +-----------------------------+----------------------------+----> closed
 */
export type ConnectionState<In extends Message> =
  /** Messages go to `receiver` one by one, or into the inbox until there is one. */
  | { readonly name: 'handshake'; receiver?: Receiver }
  /** Both sides know each other. Messages lie in the inbox. */
  | { readonly name: 'waiting' }
  | { readonly name: 'open'; readonly handlers: Handlers<In> }
  /** `lateBytes`: what may still arrive, as that for which there was credit may be on its way. */
  | { readonly name: 'closed'; readonly why: LantrainError; lateBytes: number };
