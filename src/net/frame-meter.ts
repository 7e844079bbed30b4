/** Opcodes from here on are control frames (RFC 6455, section 5.2): they are no part of a message. */
const FIRST_CONTROL = 8;
const LONGEST_HEADER = 14;
/** Milliseconds that a frame costs beside what its message does: pings and fragments are frames, too. */
export const FRAME_MS = 0.005;

/** How far the message is that is being received, and how many WebSocket frames there were. */
export interface MessageProgress {
  /** Frames of all kinds, control frames and fragments too. */
  readonly frames: number;
  /** Messages that arrived whole. */
  readonly messages: number;
  /** Whether some bytes of a message, or of a frame's header, are here and others are to come. */
  readonly isUnfinished: boolean;
  /** Payload bytes that the unfinished message is known to have, and those of them that are here. */
  readonly declaredBytes: number;
  readonly arrivedBytes: number;
}

/**
 * Reads the headers of WebSocket frames (RFC 6455, section 5.2) beside the package `ws`, which shows messages only when
 * they are whole: what a message is going to cost is to be known before its bytes are kept. It trusts `ws` to refuse
 * what is no WebSocket frame.
 */
export class FrameMeter implements MessageProgress {
  frames = 0;
  messages = 0;
  declaredBytes = 0;
  arrivedBytes = 0;
  readonly #header = new Uint8Array(LONGEST_HEADER);
  #headerBytes = 0;
  /** Of the frame's payload, still to come. */
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

  /** As far as it is known; the first two bytes tell the rest. */
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
