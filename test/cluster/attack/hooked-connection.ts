/** A worker's connection with hooks on what arrives and what leaves. */
import type { Frame, FrameContext } from '../../../cluster/protocol/frame.js';
import {
  COORDINATOR_MESSAGES,
  type CoordinatorMessage,
  dispatch,
  type Handlers,
  onlyFromCoordinator,
  type WorkerMessage,
} from '../../../cluster/protocol/protocol.js';
import type { ConnectionStats, WorkerConnection } from '../../../cluster/transport/connection.js';
import type { LantrainError } from '../../../src/errors.js';

export interface Hooks {
  /** Returns false to hide the message from the worker. */
  readonly arrives?: (message: CoordinatorMessage, connection: WorkerConnection) => boolean;
  /** Returns false to suppress the message. */
  readonly leaves?: (message: WorkerMessage, connection: WorkerConnection) => boolean;
  /** Returns the frame to send instead, or undefined to send none. */
  readonly frame?: (message: Uint8Array, frames: FrameContext) => Uint8Array | undefined;
}

/** A connection of a `Worker` that calls hooks. */
export class HookedConnection implements WorkerConnection {
  #handlers: Handlers<CoordinatorMessage> = onlyFromCoordinator({});

  constructor(
    private readonly inner: WorkerConnection,
    private readonly hooks: Hooks,
  ) {}

  get id(): number {
    return this.inner.id;
  }

  get peer(): string {
    return this.inner.peer;
  }
  get person(): string {
    return this.inner.person;
  }

  get stats(): ConnectionStats {
    return this.inner.stats;
  }

  get isOpen(): boolean {
    return this.inner.isOpen;
  }

  get frames(): FrameContext | undefined {
    return this.inner.frames;
  }

  set frames(frames: FrameContext | undefined) {
    this.inner.frames = frames;
  }

  get onControl(): Handlers<CoordinatorMessage> {
    return this.#handlers;
  }

  set onControl(handlers: Handlers<CoordinatorMessage>) {
    this.#handlers = handlers;
    const bent = (message: CoordinatorMessage) => {
      if (this.hooks.arrives?.(message, this.inner) !== false) dispatch(handlers, message);
    };
    this.inner.onControl = Object.fromEntries(
      Object.keys(COORDINATOR_MESSAGES).map((type) => [type, bent]),
    ) as unknown as Handlers<CoordinatorMessage>;
  }

  set onFrame(onFrame: (frame: Frame) => void | Promise<void>) {
    this.inner.onFrame = onFrame;
  }

  set onClose(onClose: (error: LantrainError) => void) {
    this.inner.onClose = onClose;
  }

  send(message: WorkerMessage): void {
    if (this.hooks.leaves?.(message, this.inner) !== false) this.inner.send(message);
  }

  sendFrame(message: Uint8Array): Promise<void> {
    const { frames } = this.inner;
    const sent = frames && this.hooks.frame ? this.hooks.frame(message, frames) : message;
    return sent === undefined ? Promise.resolve() : this.inner.sendFrame(sent);
  }

  close(error?: LantrainError): void {
    this.inner.close(error);
  }
}
