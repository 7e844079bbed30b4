import { createHash } from 'node:crypto';
import type { RoundNote } from '../round/round.js';
import type { OwnBitClass, ProbeHashes } from '../worker/bit-class.js';

/** The bit class of a worker. */
export interface WorkerClass {
  /** Differs if any digit of a hash differs. */
  readonly key: string;
  /** The readable name. */
  readonly name: string;
}

/** Matches keys of other classes than the owner's in a text. */
const KEY = /\b[0-9a-f]{64}\b/g;

/** Largest number of classes whose names are remembered. */
const MOST_CLASSES = 1000;

/**
 * Tells a worker's bit class by its hashes. It is the owner's class if both full hashes are the owner's. Otherwise it
 * is another class, named by the first digits of its key. Nobody can choose hashes whose key or name is the owner's.
 */
export class WorkerClasses {
  readonly #names = new Map<string, string>();

  constructor(private readonly own: OwnBitClass) {}

  of({ reference, run }: ProbeHashes): WorkerClass {
    const { salted, name: ownName } = this.own;
    if (reference === salted.reference && run === salted.run) return { key: ownName, name: ownName };
    const key = createHash('sha256').update(`${reference} ${run}`).digest('hex');
    const short = `${key.slice(0, 12)}-${key.slice(12, 24)}`;
    const name = short === ownName ? `${short}-other` : short;
    this.#names.delete(key);
    this.#names.set(key, name);
    for (const oldest of this.#names.keys()) {
      if (this.#names.size <= MOST_CLASSES) break;
      this.#names.delete(oldest);
    }
    return { key, name };
  }

  /** `text` with its keys replaced by names. */
  readable(text: string): string {
    return text.replace(KEY, (key) => this.#names.get(key) ?? key);
  }

  readableNote(note: RoundNote): RoundNote {
    return {
      ...note,
      ...('bitClass' in note ? { bitClass: this.readable(note.bitClass) } : {}),
      ...('reason' in note ? { reason: this.readable(note.reason) } : {}),
    };
  }
}
