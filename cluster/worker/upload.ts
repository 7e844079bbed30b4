/** Buckets packed and on their way to the socket at once. */
const IN_FLIGHT = 3;

/**
 * The way up of one assignment's buckets: sent in the order in which they are added, a few at once. What cannot be
 * taken up yet stays as sums on the adapter, so a slow network never holds the computation up.
 */
export class Upload {
  readonly #wanted: ReadonlySet<number> | undefined;
  readonly #waiting: number[] = [];
  readonly #senders: Promise<void>[] = [];
  #running = 0;
  #send: ((bucket: number) => Promise<void>) | undefined;
  #failed: { readonly error: unknown } | undefined;

  /** Of the buckets that are added, those that are wanted; undefined: all. */
  constructor(wanted?: readonly number[]) {
    this.#wanted = wanted && new Set(wanted);
  }

  get begun(): boolean {
    return this.#send !== undefined;
  }

  /** From now on `send` packs and sends each bucket that is added. */
  begin(send: (bucket: number) => Promise<void>): void {
    this.#send = send;
  }

  add(bucket: number): void {
    if (this.#wanted?.has(bucket) === false) return;
    this.#waiting.push(bucket);
    if (this.#running < IN_FLIGHT) this.#senders.push(this.#run());
  }

  /** Resolves when all that was added is sent. Throws the first failure of `send`. */
  async end(): Promise<void> {
    await Promise.all(this.#senders);
    if (this.#failed) throw this.#failed.error;
  }

  /** Nothing more is taken up; resolves when nothing is under way. */
  async giveUp(): Promise<void> {
    this.#waiting.length = 0;
    await Promise.all(this.#senders);
  }

  /** Takes what is waiting until nothing is. */
  async #run(): Promise<void> {
    this.#running++;
    try {
      for (let bucket = this.#waiting.shift(); bucket !== undefined; bucket = this.#waiting.shift())
        await this.#send?.(bucket);
    } catch (error) {
      this.#failed ??= { error };
      this.#waiting.length = 0;
    } finally {
      // At once, so that whatever is added next finds a lane or starts one.
      this.#running--;
    }
  }
}
