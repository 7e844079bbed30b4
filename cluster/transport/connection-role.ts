import type { Budget } from '../../src/util/budget.js';
import type { FrameContext } from '../protocol/frame.js';
import type { Message } from '../protocol/protocol.js';
import type { Limits } from './limits.js';
import type { TransportMessage } from './messages.js';
import type { ReceivePool } from './receive-pool.js';

/** How one side uses a connection: which messages it accepts, and how far it trusts the sender. */
export interface ConnectionRole<In extends Message, Out extends Message> {
  readonly decode: (message: Uint8Array) => In | TransportMessage;
  readonly limits: Limits;
  /** The pool for frames from the other side; absent if the other side needs no credit. */
  readonly pool?: ReceivePool;
  /**
   * The other side is not trusted: it may send at most `handshakeBytes` before it is authenticated, and afterwards what
   * its budget allows.
   */
  readonly isGuarded: boolean;
  /** Budget that all connections of the other side's address share. */
  readonly personBudget?: Budget;
  /**
   * Returns the milliseconds that a message will cost in addition to its handling. Throws for a well-formed message
   * that is not allowed now.
   */
  readonly check?: (message: In, frames: FrameContext | undefined) => number;
  /** Returns the milliseconds that the other side's answers to a message may cost. */
  readonly earnedMs?: (message: Out, frames: FrameContext | undefined) => number;
  /** Whether frames to the other side need its credit. */
  readonly needsCredit: boolean;
  /**
   * Pings are messages, because one side is a browser: a browser answers the protocol's pings without the page, which
   * never sees them.
   */
  readonly pingsByMessage?: boolean;
}
