import type { LantrainError } from '../../src/errors.js';
import type { Frame, FrameContext } from '../protocol/frame.js';
import type { CoordinatorMessage, Handlers, Message, WorkerMessage } from '../protocol/protocol.js';

export interface ConnectionStats {
  /** Payload bytes of messages, both kinds. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes in the socket's queue that the system has not taken yet. */
  readonly bufferedAmount: number;
  /** Round trip of the last ping; NaN before the first. */
  readonly roundTripMs: number;
  /** Time since any byte arrived. */
  readonly silentMs: number;
}

/**
 * An authenticated connection; `In` and `Out` are the messages that arrive and leave. Messages arrive in the order in
 * which they were sent, with one exception: a frame waits for credit, so control messages sent after it may overtake
 * it.
 */
export interface Connection<In extends Message, Out extends Message> {
  /** Number of the connection in this process, from 1. */
  readonly id: number;
  /** Host and port of the other side. */
  readonly peer: string;
  /** The person that it counts for (`personOf`). */
  readonly person: string;
  readonly stats: ConnectionStats;
  readonly isOpen: boolean;
  /**
   * Handlers of control messages; `onlyFromWorker` and `onlyFromCoordinator` complete a table. No message or frame is
   * delivered before this is set.
   */
  onControl: Handlers<In>;
  /** Bounds of a frame's fields. While it is absent, an arriving frame closes the connection as malformed. */
  frames: FrameContext | undefined;
  /**
   * Called with each frame that has a valid header. Its bytes count against the receive pool until the promise settles.
   */
  onFrame: (frame: Frame) => void | Promise<void>;
  /** Called once at the end, also if this side closed the connection. */
  onClose: (error: LantrainError) => void;
  send(message: Out): void;
  /**
   * Sends a sealed frame (`sealFrame`), in order. Resolves once the socket has taken it: await it before the next frame
   * for backpressure. Rejects with the connection's error if that ends first. The bytes must not change.
   */
  sendFrame(message: Uint8Array): Promise<void>;
  /**
   * Closes the connection, by force if the other side does not answer. The other side gets the error with its code.
   * Rejects unsent frames. Without an error, or with LT_CLUSTER_CLOSED, it is an ordinary goodbye.
   */
  close(error?: LantrainError): void;
}

export type WorkerConnection = Connection<CoordinatorMessage, WorkerMessage>;
export type CoordinatorConnection = Connection<WorkerMessage, CoordinatorMessage>;
