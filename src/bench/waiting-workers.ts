import type { ClusterEngine } from '../../cluster/coordinator/engine.js';
import { type MessageFromWorker, onlyFromWorker, stopBecause } from '../../cluster/protocol/protocol.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import { LantrainError } from '../errors.js';

type Join = MessageFromWorker<'join'>;

/**
 * Connected workers that wait to be measured. A worker leaves the list when it is admitted to an engine. When its
 * connection is closed, it reconnects under the same name.
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

  /**
   * Resolves when `ready` is true for the names of the waiting workers. Rejects when `failed` does. Throws
   * LT_CLUSTER_TIMEOUT after `timeoutMs`; 0: never.
   */
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

  /** Passes a waiting worker to an engine as if it had just connected. */
  admit(name: string, engine: ClusterEngine): void {
    const worker = this.#waiting.get(name);
    if (worker === undefined) throw new LantrainError('LT_CLUSTER_CLOSED', `${name} has left`);
    this.#waiting.delete(name);
    engine.admit(worker.connection);
    worker.connection.onControl.join(worker.join);
  }

  /** Tells the workers that still wait that all is done. */
  dismiss(): void {
    for (const { connection } of this.#waiting.values()) connection.send(stopBecause('done'));
  }
}
