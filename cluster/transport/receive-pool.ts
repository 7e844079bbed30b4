import { LantrainError } from '../../src/errors.js';

/** Largest number of frames that one connection may request credit for at a time. */
export const MAX_WANTS = 8;

/**
 * The memory that frames of all connections may fill, granted as credit before the bytes are sent.
 *
 *     free  --grant-->  granted (on its way)  --take-->  held (being summed)  --release-->  free
 *
 * Credit is granted for whole frames, so two senders never each hold half of what they need. It is granted in turn:
 * each waiting connection is served once before any is served again. A person is never granted more than is left for
 * others (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998), and a connection never more than is left for its
 * person's others. So one person gets at most half of the pool, two get a third each, and a single connection gets a
 * third. Hoarded credit never leaves the next connection without any. A person without credit gets one frame if it
 * fits.
 */
export class ReceivePool {
  #free: number;
  readonly #waiting: PoolMember[] = [];
  /** Unused credit, by person. */
  readonly #granted = new Map<string, number>();

  /** `frameBytes`: size of the largest frame. */
  constructor(
    readonly totalBytes: number,
    readonly frameBytes = totalBytes,
  ) {
    this.#free = totalBytes;
  }

  get freeBytes(): number {
    return this.#free;
  }

  /** Whether another connection waits for credit. */
  isShortFor(member: PoolMember): boolean {
    return this.#waiting.some((waiting) => waiting !== member);
  }

  /** Adds a connection. `person`: connections with the same value share one person's limit. */
  member(grant: (bytes: number) => void, person = ''): PoolMember {
    return new PoolMember(this, grant, person);
  }

  /** @internal */
  enqueue(member: PoolMember): void {
    if (!this.#waiting.includes(member)) this.#waiting.push(member);
    this.#serve();
  }

  /** @internal Credit of a person was used, or is given back. */
  used(person: string, bytes: number): void {
    const left = (this.#granted.get(person) ?? 0) - bytes;
    if (left > 0) this.#granted.set(person, left);
    else this.#granted.delete(person);
  }

  /** @internal */
  giveBack(bytes: number, leaving?: PoolMember): void {
    if (leaving !== undefined && this.#waiting.includes(leaving))
      this.#waiting.splice(this.#waiting.indexOf(leaving), 1);
    this.#free += bytes;
    this.#serve();
  }

  /** @internal */
  serve(): void {
    if (this.#waiting.length > 0) this.#serve();
  }

  #serve(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const { wanted, person } = next;
      this.#waiting.splice(this.#waiting.indexOf(next), 1);
      this.#free -= wanted;
      this.#granted.set(person, (this.#granted.get(person) ?? 0) + wanted);
      if (next.grantNext()) this.#waiting.push(next);
    }
  }

  /** The first waiting connection that may have more, if its frame fits. Smaller frames do not overtake it. */
  #next(): PoolMember | undefined {
    const first = this.#waiting.find(({ wanted, person, grantedBytes }) => {
      const granted = this.#granted.get(person) ?? 0;
      return granted === 0 || grantedBytes + wanted <= this.#free - granted - wanted;
    });
    return first !== undefined && first.wanted <= this.#free ? first : undefined;
  }
}

/** One connection's requests and credit. */
export class PoolMember {
  readonly #wants: number[] = [];
  #granted = 0;
  #left = false;
  #ageMs = 0;

  /** @internal */
  constructor(
    private readonly pool: ReceivePool,
    private readonly grant: (bytes: number) => void,
    readonly person: string,
  ) {}

  /** Bytes of the next frame to be granted. */
  get wanted(): number {
    return this.#wants[0];
  }

  /** Credit that is granted and not used yet. */
  get grantedBytes(): number {
    return this.#granted;
  }

  /** How long others have waited while it held credit, minus the time allowed for the bytes that it sent. */
  get ageMs(): number {
    return this.#ageMs;
  }

  /** Requests credit for a frame. Throws LT_CLUSTER_CREDIT for more than a connection may request. */
  want(bytes: number): void {
    if (bytes > Math.min(this.pool.totalBytes, this.pool.frameBytes) || this.#wants.length >= MAX_WANTS)
      throw new LantrainError('LT_CLUSTER_CREDIT', `a connection asked for credit beyond its limits (${bytes} bytes)`);
    this.#wants.push(bytes);
    this.pool.enqueue(this);
  }

  /** Grants the next request; returns whether there is another. */
  grantNext(): boolean {
    const bytes = this.#wants.shift() ?? 0;
    this.#granted += bytes;
    this.grant(bytes);
    return this.#wants.length > 0;
  }

  /** Ages held credit by `elapsedMs` if others wait. */
  grow(elapsedMs: number): void {
    if (this.#granted === 0) this.#ageMs = 0;
    else if (this.pool.isShortFor(this)) this.#ageMs += elapsedMs;
  }

  /**
   * Uses credit for arrived bytes, and makes the remaining credit younger by the time that these bytes may take. Throws
   * LT_CLUSTER_CREDIT without enough credit. Call the returned function when the bytes are free.
   */
  take(bytes: number, bytesPerSecond = Number.POSITIVE_INFINITY): () => void {
    if (bytes > this.#granted)
      throw new LantrainError('LT_CLUSTER_CREDIT', `a frame of ${bytes} bytes came with credit for ${this.#granted}`);
    this.#granted -= bytes;
    this.#ageMs = this.#granted === 0 ? 0 : Math.max(0, this.#ageMs - (1000 * bytes) / bytesPerSecond);
    this.pool.used(this.person, bytes);
    this.pool.serve();
    let held = true;
    return () => {
      if (held) this.pool.giveBack(bytes);
      held = false;
    };
  }

  /** Returns unused credit. Held bytes stay until they are released. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#wants.length = 0;
    const granted = this.#granted;
    this.#granted = 0;
    this.pool.used(this.person, granted);
    this.pool.giveBack(granted, this);
  }
}

/** The error for a frame that began without enough credit; its length is known from its first bytes. */
export function uncovered(bytes: number, credit: number): LantrainError {
  return new LantrainError('LT_CLUSTER_CREDIT', `a frame of ${bytes} bytes began with credit for ${credit}`);
}
