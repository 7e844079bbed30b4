import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Checksum } from '../exchange/checksum.js';
import { type PackedContribution, ReducerArena, type ReducerReply, type ReducerRequest } from './reducer-arena.js';
import type { SharedMemory } from './reducer-kernel.js';

/** The outcome of a contribution: all of it is in the sums, or nothing. */
export type Added = 'added' | { readonly refused: string };

export interface AddOptions {
  readonly owned?: boolean;
  readonly checksum?: Checksum;
}

/** Keeps each memory well below the 4 GiB that WebAssembly can address. */
const MOST_ARENA_VALUES = 2 ** 27;

/** This many threads add faster than a network of 10 Gbit/s delivers, so the other cores are left to other work. */
const MOST_THREADS = 4;

interface ArenaHandle {
  readonly index: number;
  readonly memory: SharedMemory;
  readonly sizes: readonly number[];
  readonly thread: Worker;
}

interface PendingAnswer {
  readonly settle: (added: Added) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * The exact all-reduce: worker threads unpack contributions and add them to 64-bit sums in shared memory. A bucket
 * belongs to one thread, so sums need no locks. Integer sums do not depend on the order of arrival. Holds 8 bytes per
 * value, and the contributions that wait.
 */
export class Reducer {
  readonly #threads: Worker[] = [];
  readonly #arenas: ArenaHandle[] = [];
  readonly #pending = new Map<number, PendingAnswer>();
  /** Tail of each bucket's queue of requests. Never rejects. */
  readonly #settled: Promise<unknown>[];
  #nextId = 0;
  #failure: unknown;

  /** `bucketSizes`: number of values of each bucket, multiples of 64. */
  constructor(
    readonly bucketSizes: readonly number[],
    threads = Math.max(1, Math.min(MOST_THREADS, Math.floor(availableParallelism() / 4))),
  ) {
    const values = bucketSizes.reduce((a, b) => a + b, 0);
    const threadCount = Math.min(threads, bucketSizes.length);
    const count = Math.min(bucketSizes.length, Math.max(threadCount, Math.ceil(values / MOST_ARENA_VALUES)));
    for (let i = 0; i < threadCount; i++) this.#threads.push(this.#start());
    for (let index = 0; index < count; index++) {
      const sizes = bucketSizes.filter((_, bucket) => bucket % count === index);
      const thread = this.#threads[index % threadCount];
      const memory = ReducerArena.allocate(sizes);
      this.#arenas.push({ index, memory, sizes, thread });
      this.#post(thread, { arena: index, memory, sizes });
    }
    this.#settled = bucketSizes.map(() => Promise.resolve());
  }

  /**
   * Adds the packed sums of one bucket. `terms`: the number of fixed-point values in each sum, that is micro-batches,
   * or tokens for the loss bucket. Each value is below 2^12, so below 2^52 steps of the grid. `packed` is verified
   * against `checksum`, if given. `owned`: nobody else uses the buffer of `packed`, so it is moved and not copied.
   */
  add(bucket: number, packed: Uint8Array, terms: number, { owned = false, checksum }: AddOptions = {}): Promise<Added> {
    const { arena, slot } = this.#slotOf(bucket);
    const movable = owned && packed.buffer instanceof ArrayBuffer;
    // Copied at once: the caller may reuse the bytes.
    const bytes = movable ? packed : new Uint8Array(packed);
    const { byteOffset: offset, byteLength: length } = bytes;
    const buffer = bytes.buffer as ArrayBuffer;
    return this.#queue(bucket, () => this.#ask(arena, slot, { buffer, offset, length, terms, checksum }));
  }

  /** Calls `use` with the words of a bucket's sums, once all earlier contributions are added. It must not keep them. */
  read<T>(bucket: number, use: (low: Uint32Array, high: Uint32Array) => T): Promise<T> {
    const { arena, slot } = this.#slotOf(bucket);
    return this.#queue(bucket, async () => {
      if (this.#failure !== undefined) throw this.#failure;
      const { low, high } = ReducerArena.words(arena.memory, arena.sizes, slot);
      return use(low, high);
    });
  }

  /** Like `read`, and sets the sums to zero for later contributions. */
  take<T>(bucket: number, use: (low: Uint32Array, high: Uint32Array) => T): Promise<T> {
    const taken = this.read(bucket, use);
    this.clear(bucket);
    return taken;
  }

  /** Sets the sums of a bucket to zero for later contributions. */
  clear(bucket: number): void {
    const { arena, slot } = this.#slotOf(bucket);
    // A failure is reported to callers that wait for sums.
    this.#queue(bucket, () => this.#ask(arena, slot, undefined)).catch(() => {});
  }

  async close(): Promise<void> {
    this.#fail(new Error('the reducer is closed'));
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
  }

  #slotOf(bucket: number): { arena: ArenaHandle; slot: number } {
    if (this.bucketSizes[bucket] === undefined) throw new RangeError(`there is no bucket ${bucket}`);
    const count = this.#arenas.length;
    return { arena: this.#arenas[bucket % count], slot: Math.floor(bucket / count) };
  }

  /** Requests the addition of a contribution, or without one, zeroes the slot. */
  #ask({ index, thread }: ArenaHandle, slot: number, add: PackedContribution | undefined): Promise<Added> {
    return new Promise((settle, fail) => {
      if (this.#failure !== undefined) throw this.#failure;
      const id = this.#nextId++;
      this.#pending.set(id, { settle, fail });
      this.#post(thread, { arena: index, id, slot, add }, add && [add.buffer]);
    });
  }

  #queue<T>(bucket: number, work: () => Promise<T>): Promise<T> {
    const result = this.#settled[bucket].then(work);
    this.#settled[bucket] = result.catch(() => undefined);
    return result;
  }

  #start(): Worker {
    // Threads run the built JavaScript even if this file runs from its source (in tests).
    const built = import.meta.url.endsWith('.ts')
      ? '../../dist/cluster/reducer/reducer-worker.js'
      : './reducer-worker.js';
    const thread = new Worker(new URL(built, import.meta.url));
    thread.on('message', ({ id, refused }: ReducerReply) => {
      this.#pending.get(id)?.settle(refused === undefined ? 'added' : { refused });
      this.#pending.delete(id);
    });
    thread.on('error', (error) => this.#fail(error));
    return thread;
  }

  #post(thread: Worker, request: ReducerRequest, transfer: ArrayBuffer[] = []): void {
    thread.postMessage(request, transfer);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const { fail } of this.#pending.values()) fail(this.#failure);
    this.#pending.clear();
  }
}
