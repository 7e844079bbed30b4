/**
 * Keeps updates of the training state and readers of it apart: any number of updates run at once, or any number of readers. A
 * caller waits while the other kind runs, and behind every caller that already waits.
 */
export class StateGate {
  #updates = 0;
  #readers = 0;
  readonly #waiting: { readonly kind: 'update' | 'read'; readonly go: () => void }[] = [];

  /** Runs `work`, which changes the state, while nobody reads it. */
  update<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#run('update', work);
  }

  /** Runs `work`, which reads the state, while nobody changes it. */
  read<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#run('read', work);
  }

  async #run<T>(kind: 'update' | 'read', work: () => T | Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#mayEnter(kind))
      await new Promise<void>((go) => this.#waiting.push({ kind, go }));
    else this.#count(kind, 1);
    try {
      return await work();
    } finally {
      this.#count(kind, -1);
      this.#admit();
    }
  }

  #mayEnter(kind: 'update' | 'read'): boolean {
    return kind === 'update' ? this.#readers === 0 : this.#updates === 0;
  }

  /** Counts an admitted caller at once, because another caller may ask before the admitted one runs. */
  #admit(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#mayEnter(next.kind); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#count(next.kind, 1);
      next.go();
    }
  }

  #count(kind: 'update' | 'read', by: number): void {
    if (kind === 'update') this.#updates += by;
    else this.#readers += by;
  }
}
