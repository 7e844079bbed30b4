import type { ClusterEngine } from '../../cluster/coordinator/engine.js';
import { type MessageFromWorker, onlyFromWorker, stopBecause } from '../../cluster/protocol/protocol.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import { LantrainError } from '../errors.js';

type Join = MessageFromWorker<'join'>;

/**
 * Workers that are connected and wait to be measured. A worker that is not in the lobby is admitted to an engine; one
 * whose connection is closed comes back by itself, under the same name.
 */
export class WaitingWorkers {
  readonly #waiting = new Map<string, { readonly connection: CoordinatorConnection; readonly join: Join }>();
  #notify: () => void = () => {};

  /** The server's `onConnection`. */
  readonly add = (connection: CoordinatorConnection): void => {
    let name: string | undefined;
    connection.onClose = () => {
      if (name !== undefined && this.#waiting.get(name)?.connection === connection) this.#waiting.delete(name);
    };
    connection.onControl = onlyFromWorker({
      join: (join) => {
        name = join.name;
        this.#waiting.set(name, { connection, join });
        this.#notify();
      },
      leave: ({ reason }) => connection.close(new LantrainError('LT_CLUSTER_CLOSED', reason)),
    });
  };

  get names(): string[] {
    return [...this.#waiting.keys()].sort();
  }

  /** Resolves when `ready` holds of the names that wait; `failed` may reject earlier. Throws LT_CLUSTER_TIMEOUT. */
  async until(ready: (names: readonly string[]) => boolean, timeoutMs: number, failed: Promise<never>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const done = new Promise<void>((resolve, reject) => {
      const look = () => {
        if (ready(this.names)) resolve();
      };
      this.#notify = look;
      const waited = `${this.names.length} workers are here after ${timeoutMs / 1000} s, which are not enough`;
      if (timeoutMs > 0) timer = setTimeout(() => reject(new LantrainError('LT_CLUSTER_TIMEOUT', waited)), timeoutMs);
      look();
    });
    try {
      await Promise.race([done, failed]);
    } finally {
      clearTimeout(timer);
      this.#notify = () => {};
    }
  }

  /** Hands a worker to an engine as if it had just connected. */
  admit(name: string, engine: ClusterEngine): void {
    const worker = this.#waiting.get(name);
    if (worker === undefined) throw new LantrainError('LT_CLUSTER_CLOSED', `${name} has left`);
    this.#waiting.delete(name);
    engine.admit(worker.connection);
    worker.connection.onControl.join(worker.join);
  }

  /** Sends those who still wait home. */
  dismiss(): void {
    for (const { connection } of this.#waiting.values()) connection.send(stopBecause('done'));
  }
}
