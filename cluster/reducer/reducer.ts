import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { gridWords } from '../../src/model/grid.js';
import type { Wire } from '../../src/model/wire.js';
import type { Checksum } from '../exchange/checksum.js';
import { ReducerArena, type SlotShape } from './reducer-arena.js';
import type { ReducerReply, ReducerRequest, SlotWork } from './reducer-requests.js';
import type { SharedMemory } from './web-assembly.js';

/** The outcome of a contribution: all of it is in the sums, or nothing. */
export type Added = 'added' | { readonly refused: string };

export interface AddOptions {
  readonly owned?: boolean;
  readonly checksum?: Checksum;
}

export interface ReducerOptions {
  /** The form of all contributions but those to the last bucket, the loss. The default is exact. */
  readonly wire?: Wire;
  readonly threads?: number;
}

/** Keeps each memory well below the 4 GiB that WebAssembly can address. */
const MOST_ARENA_VALUES = 2 ** 27;

/** This many threads add faster than a network of 10 Gbit/s delivers, so the other cores are left to other work. */
const MOST_THREADS = 4;

interface ArenaHandle {
  readonly index: number;
  readonly memory: SharedMemory;
  readonly slots: readonly SlotShape[];
  readonly thread: ReducerThread;
}

interface ReducerThread {
  readonly worker: Worker;
  /** Digests that it still has to compute. */
  digests: number;
}

interface PendingAnswer {
  readonly settle: (reply: ReducerReply) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * The exact all-reduce: worker threads unpack contributions and add them to 64-bit sums in shared memory. A bucket
 * belongs to one thread, so sums need no locks. Integer sums do not depend on the order of arrival. Holds 8 bytes per
 * value, and the contributions that wait.
 */
export class Reducer {
  readonly #threads: ReducerThread[] = [];
  readonly #arenas: ArenaHandle[] = [];
  readonly #pending = new Map<number, PendingAnswer>();
  /** Tail of each bucket's queue of requests. Never rejects. */
  readonly #settled: Promise<unknown>[];
  /** Buckets of the low wire that were cleared since anything was added; memory still has the old sums. */
  readonly #cleared = new Set<number>();
  #nextId = 0;
  #failure: unknown;

  /** `bucketSizes`: number of values of each bucket, multiples of 64. */
  constructor(
    readonly bucketSizes: readonly number[],
    { wire = 'exact', threads = usualThreads() }: ReducerOptions = {},
  ) {
    const slots = bucketSizes.map((size, i) => ({ size, low: wire === 'low' && i < bucketSizes.length - 1 }));
    const values = bucketSizes.reduce((a, b) => a + b, 0);
    const threadCount = Math.min(threads, bucketSizes.length);
    const count = Math.min(bucketSizes.length, Math.max(threadCount, Math.ceil(values / MOST_ARENA_VALUES)));
    for (let i = 0; i < threadCount; i++) this.#threads.push(this.#start());
    for (let index = 0; index < count; index++) {
      const own = slots.filter((_, bucket) => bucket % count === index);
      const thread = this.#threads[index % threadCount];
      const memory = ReducerArena.allocate(own);
      this.#arenas.push({ index, memory, slots: own, thread });
      this.#post(thread, { arena: index, memory, slots: own });
    }
    this.#settled = bucketSizes.map(() => Promise.resolve());
  }

  /**
   * Adds the packed sums of one bucket. `terms`: the number of rounded values in each sum, that is micro-batches, or
   * tokens for the loss bucket. Each value is below 2^12. `packed` is verified against `checksum`, if given. `owned`:
   * nobody else uses the buffer of `packed`, so it is moved and not copied.
   */
  add(bucket: number, packed: Uint8Array, terms: number, { owned = false, checksum }: AddOptions = {}): Promise<Added> {
    this.#slotOf(bucket);
    const movable = owned && packed.buffer instanceof ArrayBuffer;
    // Copied at once: the caller may reuse the bytes.
    const bytes = movable ? packed : new Uint8Array(packed);
    const { byteOffset: offset, byteLength: length } = bytes;
    const buffer = bytes.buffer as ArrayBuffer;
    return this.#queue(bucket, async () => {
      const isFirst = this.#cleared.has(bucket);
      const work = { type: 'add', packed: { buffer, offset, length, terms, checksum }, isFirst } as const;
      const { refused } = await this.#ask(bucket, work, [buffer]);
      if (refused !== undefined) return { refused };
      this.#cleared.delete(bucket);
      return 'added';
    });
  }

  /**
   * Sets the grid that later contributions to a bucket of the low wire are in units of: its bytes, whole words. Those in
   * units of another are refused.
   */
  setGrid(bucket: number, bytes: Uint8Array): void {
    const { arena, slot } = this.#slotOf(bucket);
    const { size, low } = arena.slots[slot];
    if (!low) throw new RangeError(`bucket ${bucket} has no grid`);
    if (bytes.length !== 4 * gridWords(size))
      throw new RangeError(`${bytes.length} grid bytes for a bucket of ${size} values`);
    const work = { type: 'grid', bytes: new Uint8Array(bytes) } as const;
    // A failure is reported to callers that wait for sums.
    this.#queue(bucket, () => this.#ask(bucket, work)).catch(() => {});
  }

  /** Calls `use` with the words of a bucket's sums, once all earlier contributions are added. It must not keep them. */
  read<T>(bucket: number, use: (low: Uint32Array, high: Uint32Array) => T): Promise<T> {
    const { arena, slot } = this.#slotOf(bucket);
    return this.#queue(bucket, async () => {
      if (this.#cleared.delete(bucket)) await this.#ask(bucket, { type: 'clear' });
      if (this.#failure !== undefined) throw this.#failure;
      const { low, high } = ReducerArena.words(arena.memory, arena.slots, slot);
      return use(low, high);
    });
  }

  /** Like `read`, and sets the sums to zero for later contributions. */
  take<T>(bucket: number, use: (low: Uint32Array, high: Uint32Array) => T): Promise<T> {
    const taken = this.read(bucket, use);
    this.clear(bucket);
    return taken;
  }

  /** Sets the sums of a bucket to zero for later contributions. In the low wire, the first of them does it. */
  clear(bucket: number): void {
    const { arena, slot } = this.#slotOf(bucket);
    const work = async () => {
      if (arena.slots[slot].low) this.#cleared.add(bucket);
      else await this.#ask(bucket, { type: 'clear' });
    };
    // A failure is reported to callers that wait for sums.
    this.#queue(bucket, work).catch(() => {});
  }

  /**
   * The SHA-256 of a payload, in hexadecimal, computed in a thread; undefined where it does not match `checksum`. `packed`
   * may be used again on return.
   */
  async digest(packed: Uint8Array, checksum: Checksum): Promise<string | undefined> {
    const thread = this.#threads.reduce((a, b) => (b.digests < a.digests ? b : a));
    const copy = new Uint8Array(packed);
    thread.digests++;
    try {
      const { digest } = await this.#request(thread, (id) => ({ id, digest: copy, checksum }), [copy.buffer]);
      return digest;
    } finally {
      thread.digests--;
    }
  }

  async close(): Promise<void> {
    this.#fail(new Error('the reducer is closed'));
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #slotOf(bucket: number): { arena: ArenaHandle; slot: number } {
    if (this.bucketSizes[bucket] === undefined) throw new RangeError(`there is no bucket ${bucket}`);
    const count = this.#arenas.length;
    return { arena: this.#arenas[bucket % count], slot: Math.floor(bucket / count) };
  }

  #ask(bucket: number, work: SlotWork, transfer?: ArrayBuffer[]): Promise<ReducerReply> {
    const { arena, slot } = this.#slotOf(bucket);
    return this.#request(arena.thread, (id) => ({ arena: arena.index, id, slot, work }), transfer);
  }

  #request(
    thread: ReducerThread,
    request: (id: number) => ReducerRequest,
    transfer?: ArrayBuffer[],
  ): Promise<ReducerReply> {
    return new Promise((settle, fail) => {
      if (this.#failure !== undefined) throw this.#failure;
      const id = this.#nextId++;
      this.#pending.set(id, { settle, fail });
      this.#post(thread, request(id), transfer);
    });
  }

  #queue<T>(bucket: number, work: () => Promise<T>): Promise<T> {
    const result = this.#settled[bucket].then(work);
    this.#settled[bucket] = result.catch(() => undefined);
    return result;
  }

  #start(): ReducerThread {
    // Threads run the built JavaScript even if this file runs from its source (in tests).
    const built = import.meta.url.endsWith('.ts')
      ? '../../dist/cluster/reducer/reducer-worker.js'
      : './reducer-worker.js';
    const worker = new Worker(new URL(built, import.meta.url));
    worker.on('message', (reply: ReducerReply) => {
      this.#pending.get(reply.id)?.settle(reply);
      this.#pending.delete(reply.id);
    });
    worker.on('error', (error) => this.#fail(error));
    return { worker, digests: 0 };
  }

  #post({ worker }: ReducerThread, request: ReducerRequest, transfer: ArrayBuffer[] = []): void {
    worker.postMessage(request, transfer);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const { fail } of this.#pending.values()) fail(this.#failure);
    this.#pending.clear();
  }
}

function usualThreads(): number {
  return Math.max(1, Math.min(MOST_THREADS, Math.floor(availableParallelism() / 4)));
}
