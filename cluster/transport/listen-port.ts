import { LantrainError } from '../../src/errors.js';
import { authorityOf } from '../../src/net/join-url.js';
import { isTaken } from '../../src/net/listening.js';

/** A coordinator's default port, the one to open in firewalls. */
export const DEFAULT_PORT = 7070;
const MOST_TRIED = 20;

/** The ports to try, in this order. */
export interface Ports {
  readonly ports: readonly number[];
  /** The port is the one of the run's last coordinator, which the workers know. */
  readonly isKept: boolean;
}

/** `asked`: the user's port, 0 for a free one. `kept`: the port of the run's last coordinator. */
export function portsFor(asked: number | undefined, kept: number | undefined): Ports {
  if (asked !== undefined && asked > 0) return { ports: [asked], isKept: false };
  if (kept !== undefined) return { ports: [kept], isKept: true };
  if (asked === 0) return { ports: [0], isKept: false };
  return { ports: Array.from({ length: MOST_TRIED }, (_, i) => DEFAULT_PORT + i), isKept: false };
}

/**
 * The result of `listen` for the first free port. Throws LT_CLUSTER_LISTEN if all are taken, and what `listen` throws.
 */
export async function listenOn<T>(
  host: string,
  { ports, isKept }: Ports,
  listen: (port: number) => Promise<T>,
): Promise<T> {
  for (const port of ports) {
    try {
      return await listen(port);
    } catch (error) {
      if (!isTaken(error) || (ports.length === 1 && !isKept)) throw error;
      if (port !== ports.at(-1)) continue;
      const what = isKept
        ? `${authorityOf(host, port)}, the port that this run's workers know, is another program's now; free it, or choose ` +
          'another --listen HOST:PORT and give the workers the new URL'
        : `ports ${ports[0]} to ${port} of ${host} are all taken; choose one with --listen HOST:PORT`;
      throw new LantrainError('LT_CLUSTER_LISTEN', what, { cause: error });
    }
  }
  throw new Error('there is always a port to try');
}

/** Error handler for a port that need not be available but must not be taken by another program. */
export function throwIfTaken(error: unknown): void {
  if (isTaken(error)) throw error;
}
