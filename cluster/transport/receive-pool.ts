import { LantrainError } from '../../src/errors.js';

/** Frames that one connection may wait for at a time. */
export const MAX_WANTS = 8;

/**
 * The memory that all connections together may fill with frames, given out as credit before the bytes are sent.
 *
 *     free  --grant-->  granted (on its way)  --take-->  held (being summed)  --release-->  free
 *
 * Credit is given for whole frames, so that no two senders can each hold half of what they need, and in turn: who waits
 * is served once before anybody is served again.
 */
export class ReceivePool {
  #free: number;
  readonly #waiting: PoolMember[] = [];

  constructor(readonly totalBytes: number) {
    this.#free = totalBytes;
  }

  get freeBytes(): number {
    return this.#free;
  }

  /** Whether somebody waits for credit that is not there. */
  get isShort(): boolean {
    return this.#waiting.length > 0;
  }

  member(grant: (bytes: number) => void): PoolMember {
    return new PoolMember(this, grant);
  }

  /** @internal */
  enqueue(member: PoolMember): void {
    if (!this.#waiting.includes(member)) this.#waiting.push(member);
    this.#serve();
  }

  /** @internal */
  giveBack(bytes: number, leaving?: PoolMember): void {
    if (leaving !== undefined && this.#waiting.includes(leaving))
      this.#waiting.splice(this.#waiting.indexOf(leaving), 1);
    this.#free += bytes;
    this.#serve();
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next !== undefined && next.wanted <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.wanted;
      if (next.grantNext()) this.#waiting.push(next);
    }
  }
}

/** One connection's part in the pool. */
export class PoolMember {
  readonly #wants: number[] = [];
  #granted = 0;
  #left = false;

  /** @internal */
  constructor(
    private readonly pool: ReceivePool,
    private readonly grant: (bytes: number) => void,
  ) {}

  /** Bytes of the frame that is next to be granted. */
  get wanted(): number {
    return this.#wants[0];
  }

  /** Credit that was given and not used yet. */
  get grantedBytes(): number {
    return this.#granted;
  }

  /** Throws LT_CLUSTER_CREDIT for more than a connection may ask. */
  want(bytes: number): void {
    if (bytes > this.pool.totalBytes || this.#wants.length >= MAX_WANTS)
      throw new LantrainError('LT_CLUSTER_CREDIT', `a connection asked for credit beyond its limits (${bytes} bytes)`);
    this.#wants.push(bytes);
    this.pool.enqueue(this);
  }

  /** Grants the next want; whether there is another. */
  grantNext(): boolean {
    const bytes = this.#wants.shift() ?? 0;
    this.#granted += bytes;
    this.grant(bytes);
    return this.#wants.length > 0;
  }

  /** Exchanges credit for bytes that arrived. Throws LT_CLUSTER_CREDIT without it. Call what it returns when done. */
  take(bytes: number): () => void {
    if (bytes > this.#granted)
      throw new LantrainError('LT_CLUSTER_CREDIT', `a frame of ${bytes} bytes came with credit for ${this.#granted}`);
    this.#granted -= bytes;
    let held = true;
    return () => {
      if (held) this.pool.giveBack(bytes);
      held = false;
    };
  }

  /** Gives unused credit back; bytes that are held stay so until they are released. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#wants.length = 0;
    this.pool.giveBack(this.#granted, this);
    this.#granted = 0;
  }
}
