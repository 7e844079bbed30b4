import { decodeFrame, type Frame, type FrameContext } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { Wire } from './wire.js';

export interface FrameIntakeOptions {
  readonly wire: Pick<Wire, 'pause' | 'resume' | 'isPaused'>;
  /** Bytes of frames that may be in use at once. */
  readonly mostBytes: number;
  /** Runs `work`; an error with a code ends the connection. */
  readonly guard: (work: () => void) => void;
}

/** Delivers the frames of one connection, and releases their bytes once they are used. */
export class FrameIntake {
  /** Bytes of frames in use that count against no pool. */
  #heldBytes = 0;

  constructor(private readonly options: FrameIntakeOptions) {}

  /**
   * Delivers a frame to `take`. `release` returns its bytes to their pool. By default the bytes count against no pool,
   * and the socket is not read while too many such bytes are in use. Throws LT_CLUSTER_MALFORMED if no frame is
   * expected, and what `take` throws.
   */
  handle(
    bytes: Uint8Array,
    context: FrameContext | undefined,
    take: (frame: Frame) => void | Promise<void>,
    release: () => void = this.#hold(bytes.length),
  ): void {
    let settled: void | Promise<void>;
    try {
      if (context === undefined) throw malformed('a frame where none is due');
      settled = take(decodeFrame(bytes, context));
    } catch (error) {
      release();
      throw error;
    }
    if (settled === undefined) release();
    else
      settled.finally(release).catch((error) =>
        this.options.guard(() => {
          throw error;
        }),
      );
  }

  #hold(bytes: number): () => void {
    const { wire, mostBytes } = this.options;
    this.#heldBytes += bytes;
    if (this.#heldBytes > mostBytes) wire.pause();
    return () => {
      this.#heldBytes -= bytes;
      if (wire.isPaused && this.#heldBytes <= mostBytes) wire.resume();
    };
  }
}
