import type { Budget } from '../../src/util/budget.js';
import type { FrameContext } from '../protocol/frame.js';
import type { Message } from '../protocol/protocol.js';
import type { Limits } from './limits.js';
import type { TransportMessage } from './messages.js';
import type { ReceivePool } from './receive-pool.js';

/** What a connection is to its side: which messages it takes, and how far it trusts who sends them. */
export interface ConnectionRole<In extends Message, Out extends Message> {
  readonly decode: (message: Uint8Array) => In | TransportMessage;
  readonly limits: Limits;
  /** The pool that frames from the other side are taken into; absent where the other side needs no credit. */
  readonly pool?: ReceivePool;
  /**
   * Whether the other side comes uninvited: it may send `handshakeBytes` at most before it is authenticated, and
   * afterwards what its budget allows.
   */
  readonly isGuarded: boolean;
  /** What all connections of the other side's address may use up together. */
  readonly personBudget?: Budget;
  /**
   * Returns the milliseconds that a message will cost beside being handled. Throws for one that is well formed and has
   * no business here, or not again.
   */
  readonly check?: (message: In, frames: FrameContext | undefined) => number;
  /** Returns the milliseconds that the other side's answers to a message may cost. */
  readonly earnedMs?: (message: Out, frames: FrameContext | undefined) => number;
  /** Whether frames to the other side need its credit. */
  readonly needsCredit: boolean;
  /**
   * Whether pings are messages, because one side is a browser: its WebSocket answers those of the protocol by itself,
   * without the page, and shows it none.
   */
  readonly pingsByMessage?: boolean;
}
