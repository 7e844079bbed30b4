import type { LantrainError } from '../../src/errors.js';
import type { Frame, FrameContext } from '../protocol/frame.js';
import type { CoordinatorMessage, Handlers, Message, WorkerMessage } from '../protocol/protocol.js';

export interface ConnectionStats {
  /** Payload bytes of messages, both kinds. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes given to the socket that the system has not taken yet. */
  readonly bufferedAmount: number;
  /** Of the last ping; NaN before the first. */
  readonly roundTripMs: number;
  /** Since the last byte arrived, of whatever kind. */
  readonly silentMs: number;
}

/**
 * An authenticated connection; `In` and `Out` are the messages that arrive and leave. Messages of both kinds arrive in
 * the order in which they were sent; a frame waits for credit, so control messages sent after it may overtake it.
 */
export interface Connection<In extends Message, Out extends Message> {
  /** Counts connections of this process from 1. */
  readonly id: number;
  /** Host and port of the other side. */
  readonly peer: string;
  /** Whom it counts for (`personOf`). */
  readonly person: string;
  readonly stats: ConnectionStats;
  readonly isOpen: boolean;
  /**
   * Handlers of control messages; `onlyFromWorker` and `onlyFromCoordinator` fill a table. Nothing is handed out, and
   * no frame is sent, before this is set.
   */
  onControl: Handlers<In>;
  /** What frames may say; frames that arrive while it is absent close the connection as malformed. */
  frames: FrameContext | undefined;
  /** A frame with a valid header. Its bytes count against the receive pool until the promise settles. */
  onFrame: (frame: Frame) => void | Promise<void>;
  /** Called once, also for connections that this side closed. */
  onClose: (error: LantrainError) => void;
  send(message: Out): void;
  /**
   * Sends a sealed frame (`sealFrame`), in order. Settles once the socket has taken it, so awaiting it before the next
   * is backpressure; rejects with LT_CLUSTER_CLOSED when the connection ends first. The bytes must stay as they are.
   */
  sendFrame(message: Uint8Array): Promise<void>;
  /**
   * Tells the other side why (an error of ours arrives there with its code) and closes, by force if it does not answer.
   * Rejects frames that were not sent. Without an error, or with LT_CLUSTER_CLOSED, it is an ordinary goodbye.
   */
  close(error?: LantrainError): void;
}

export type WorkerConnection = Connection<CoordinatorMessage, WorkerMessage>;
export type CoordinatorConnection = Connection<WorkerMessage, CoordinatorMessage>;
