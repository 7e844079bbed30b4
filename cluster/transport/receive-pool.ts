import { LantrainError } from '../../src/errors.js';

/** Frames that one connection may wait for at a time. */
export const MAX_WANTS = 8;

/**
 * The memory that all connections together may fill with frames, given out as credit before the bytes are sent.
 *
 *     free  --grant-->  granted (on its way)  --take-->  held (being summed)  --release-->  free
 *
 * Credit is given for whole frames, so that no two senders can each hold half of what they need, and in turn: who waits
 * is served once before anybody is served again. Nobody is granted more than is left for others (Choudhury and Hahne,
 * Dynamic Queue Length Thresholds, 1998), no connection more than is left for its person's others: one person gets half
 * of the pool at most, two get a third each, and one connection alone a third, so who hoards credit never leaves the
 * next one without. A person who has none gets one frame wherever it fits.
 */
export class ReceivePool {
  #free: number;
  readonly #waiting: PoolMember[] = [];
  /** Credit that is granted and not used, by person. */
  readonly #granted = new Map<string, number>();

  /** `frameBytes`: the largest frame. */
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

  /** `person`: those of one name share what one may have. */
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

  /** The first who may have more, if there is room for it: nobody smaller overtakes it. */
  #next(): PoolMember | undefined {
    const first = this.#waiting.find(({ wanted, person, grantedBytes }) => {
      const granted = this.#granted.get(person) ?? 0;
      return granted === 0 || grantedBytes + wanted <= this.#free - granted - wanted;
    });
    return first !== undefined && first.wanted <= this.#free ? first : undefined;
  }
}

/** One connection's part in the pool. */
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

  /** Bytes of the frame that is next to be granted. */
  get wanted(): number {
    return this.#wants[0];
  }

  /** Credit that was given and not used yet. */
  get grantedBytes(): number {
    return this.#granted;
  }

  /** For how long others have waited while it held credit, less what the bytes that it sent may take. */
  get ageMs(): number {
    return this.#ageMs;
  }

  /** Throws LT_CLUSTER_CREDIT for more than a connection may ask. */
  want(bytes: number): void {
    if (bytes > Math.min(this.pool.totalBytes, this.pool.frameBytes) || this.#wants.length >= MAX_WANTS)
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

  /** Time goes by. */
  grow(elapsedMs: number): void {
    if (this.#granted === 0) this.#ageMs = 0;
    else if (this.pool.isShortFor(this)) this.#ageMs += elapsedMs;
  }

  /**
   * Exchanges credit for bytes that arrived, and makes what is left of it younger by the time that they may take. Throws
   * LT_CLUSTER_CREDIT without it. Call what it returns when done.
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

  /** Gives unused credit back; bytes that are held stay so until they are released. */
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

/** For a frame whose first bytes are here, and whose length is known. */
export function uncovered(bytes: number, credit: number): LantrainError {
  return new LantrainError('LT_CLUSTER_CREDIT', `a frame of ${bytes} bytes began with credit for ${credit}`);
}
