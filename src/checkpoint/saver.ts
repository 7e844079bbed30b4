import { Worker } from 'node:worker_threads';
import { type ErrorCode, LantrainError } from '../errors.js';
import type { NewCheckpoint } from './checkpoint.js';
import type { SharedState } from './shared-state.js';

export interface SaveRequest {
  /** The folder of all checkpoints. */
  readonly dir: string;
  /** The number of checkpoints that are kept. */
  readonly keep: number;
  readonly checkpoint: Omit<NewCheckpoint, 'read'>;
  readonly state: SharedState;
}

export interface Saved {
  readonly path: string;
  readonly digest: string;
}

export type SaveReply = Saved | { readonly failure: { readonly code?: ErrorCode; readonly message: string } };

/** Hashes and writes checkpoints in another thread, one at a time. */
export class Saver {
  readonly #thread: Worker;
  #waiting: { settle(saved: Saved): void; fail(error: unknown): void } | undefined;
  #failure: unknown;

  constructor() {
    // Threads run the built JavaScript, also when tests run this file from its source.
    const built = import.meta.url.endsWith('.ts') ? '../../dist/src/checkpoint/saver-thread.js' : './saver-thread.js';
    this.#thread = new Worker(new URL(built, import.meta.url));
    this.#thread.unref();
    this.#thread.on('message', (reply: SaveReply) => {
      if ('failure' in reply) this.#settle(undefined, errorOf(reply.failure));
      else this.#settle(reply);
    });
    this.#thread.on('error', (error) => this.#end(error));
    this.#thread.on('exit', () => this.#end(new Error('the thread that writes checkpoints ended')));
  }

  /** The state must not change until this resolves. Throws as `writeCheckpoint` does. */
  save(request: SaveRequest): Promise<Saved> {
    return new Promise((settle, fail) => {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#waiting) throw new Error('a checkpoint is being written');
      this.#waiting = { settle, fail };
      this.#thread.postMessage(request);
    });
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }

  #settle(saved: Saved | undefined, error?: unknown): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (saved) waiting?.settle(saved);
    else waiting?.fail(error);
  }

  #end(error: unknown): void {
    this.#failure ??= error;
    this.#settle(undefined, this.#failure);
  }
}

function errorOf({ code, message }: { readonly code?: ErrorCode; readonly message: string }): Error {
  return code === undefined ? new Error(message) : new LantrainError(code, message);
}
