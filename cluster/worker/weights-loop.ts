import type { WorkerEngine } from './worker-engine.js';
import type { WorkerState } from './worker-state.js';

interface Waiter {
  readonly version: number;
  readonly go: () => void;
  readonly stop: (error: unknown) => void;
}

/** Writes due weights to the adapter, in order, and verifies each complete version. */
export class WeightsLoop {
  #running: Promise<void> | undefined;
  /** More weights, or a commit, arrived while some were applied. */
  #isDue = false;
  #over = false;
  #waiting: Waiter[] = [];

  constructor(
    private readonly state: WorkerState,
    private readonly engine: Pick<WorkerEngine, 'follower' | 'checks' | 'packer' | 'sums'>,
    private readonly onVerified: (version: number) => void,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  /** Starts the loop: weights are due. */
  wake(): void {
    this.#isDue = true;
    this.#running ??= this.#run();
  }

  /** Resolves when the weights are at `version` or later. Rejects if the loop ends first. */
  at(version: number): Promise<void> {
    if (this.state.verified >= version) return Promise.resolve();
    return new Promise((go, stop) => this.#waiting.push({ version, go, stop }));
  }

  /** Applies nothing more; callers that wait are rejected with `reason`. */
  end(reason: unknown): void {
    this.#over = true;
    for (const { stop } of this.#waiting.splice(0)) stop(reason);
  }

  /** Resolves when nothing is being applied. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#isDue && !this.#over) {
        this.#isDue = false;
        await this.#applyDue();
      }
    } catch (error) {
      this.onFailure(error);
    } finally {
      this.#running = undefined;
    }
  }

  async #applyDue(): Promise<void> {
    const { follower, checks, packer, sums } = this.engine;
    const complete = this.state.applyDue(({ header: { kind, bucket, exponent }, payload }) => {
      if (kind === 'weights-whole') follower.load(bucket, payload);
      else follower.apply(bucket, payload, exponent);
      if (sums.grid) packer.setCheck(bucket, follower.gridChecks(bucket));
    });
    if (complete === undefined || !this.state.verify(complete, await checks.read())) return;
    this.onVerified(complete);
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ version }) => version > complete);
    for (const { version, go } of waiting) if (version <= complete) go();
  }
}
