/** Opcodes from here on are control frames (RFC 6455, section 5.2), which are not part of a message. */
const FIRST_CONTROL = 8;
const LONGEST_HEADER = 14;
/** Milliseconds that a frame costs in addition to its message. Pings and fragments are frames too. */
export const FRAME_MS = 0.005;

/** The progress of the message being received, and counts of frames and messages. */
export interface MessageProgress {
  /** Frames of all kinds, including control frames and fragments. */
  readonly frames: number;
  /** Messages that arrived whole. */
  readonly messages: number;
  /** Whether a message or a frame's header has arrived in part. */
  readonly isUnfinished: boolean;
  /** Known payload bytes of the unfinished message, and those that have arrived. */
  readonly declaredBytes: number;
  readonly arrivedBytes: number;
}

/**
 * Reads the headers of WebSocket frames (RFC 6455, section 5.2) in parallel to the package `ws`, which reports only
 * whole messages: the cost of a message must be known before its bytes are kept. `ws` rejects what is not a WebSocket
 * frame.
 */
export class FrameMeter implements MessageProgress {
  frames = 0;
  messages = 0;
  declaredBytes = 0;
  arrivedBytes = 0;
  readonly #header = new Uint8Array(LONGEST_HEADER);
  #headerBytes = 0;
  /** Payload bytes of the frame that are still to come. */
  #left = 0;
  #isControl = false;
  #isFinal = false;
  #isFragmented = false;

  get isUnfinished(): boolean {
    return this.#headerBytes > 0 || this.#left > 0 || this.#isFragmented;
  }

  read(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        this.#header[this.#headerBytes++] = chunk[at++];
        if (this.#headerBytes === this.#headerLength()) this.#begin();
        continue;
      }
      const taken = Math.min(this.#left, chunk.length - at);
      at += taken;
      this.#left -= taken;
      if (!this.#isControl) this.arrivedBytes += taken;
      if (this.#left === 0) this.#end();
    }
  }

  /** The header's length as far as it is known: the first two bytes determine the rest. */
  #headerLength(): number {
    if (this.#headerBytes < 2) return 2;
    const second = this.#header[1];
    const length = second & 0x7f;
    return 2 + (length === 126 ? 2 : length === 127 ? 8 : 0) + (second & 0x80 ? 4 : 0);
  }

  #begin(): void {
    const view = new DataView(this.#header.buffer);
    const short = view.getUint8(1) & 0x7f;
    this.#left =
      short < 126 ? short : short === 126 ? view.getUint16(2) : 2 ** 32 * view.getUint32(2) + view.getUint32(6);
    this.#headerBytes = 0;
    this.frames++;
    this.#isControl = (view.getUint8(0) & 0x0f) >= FIRST_CONTROL;
    this.#isFinal = (view.getUint8(0) & 0x80) !== 0;
    if (!this.#isControl) {
      this.#isFragmented = true;
      this.declaredBytes += this.#left;
    }
    if (this.#left === 0) this.#end();
  }

  #end(): void {
    if (this.#isControl || !this.#isFinal) return;
    this.messages++;
    this.#isFragmented = false;
    this.declaredBytes = 0;
    this.arrivedBytes = 0;
  }
}
