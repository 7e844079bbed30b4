/** Buckets that are packed and sent concurrently. */
const IN_FLIGHT = 3;

/**
 * Uploads one assignment's buckets in the order in which they are added, a few at once. Buckets that wait stay as sums
 * on the adapter, so a slow network never delays the computation.
 */
export class Upload {
  readonly #wanted: ReadonlySet<number> | undefined;
  readonly #waiting: number[] = [];
  readonly #senders: Promise<void>[] = [];
  #running = 0;
  #send: ((bucket: number) => Promise<void>) | undefined;
  #failed: { readonly error: unknown } | undefined;

  /** `wanted`: the buckets to send of those that are added; undefined: all. */
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

  /** Resolves when every added bucket is sent. Throws the first failure of `send`. */
  async end(): Promise<void> {
    await Promise.all(this.#senders);
    if (this.#failed) throw this.#failed.error;
  }

  /** Drops the buckets that wait; resolves when none is being sent. */
  async giveUp(): Promise<void> {
    this.#waiting.length = 0;
    await Promise.all(this.#senders);
  }

  /** Sends waiting buckets until none is left. */
  async #run(): Promise<void> {
    this.#running++;
    try {
      for (let bucket = this.#waiting.shift(); bucket !== undefined; bucket = this.#waiting.shift())
        await this.#send?.(bucket);
    } catch (error) {
      this.#failed ??= { error };
      this.#waiting.length = 0;
    } finally {
      // Right here, so that a bucket added next starts a new sender.
      this.#running--;
    }
  }
}
