import { onlyFromCoordinator } from '../../cluster/protocol/protocol.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';

/** A worker's connection that sends nothing, except what `more` overrides. */
export function fakeConnection(
  more: Pick<WorkerConnection, 'send' | 'close'> & Partial<WorkerConnection>,
): WorkerConnection {
  return {
    id: 1,
    peer: 'nobody',
    person: 'nobody',
    stats: { bytesIn: 0, bytesOut: 0, bufferedAmount: 0, roundTripMs: 0, silentMs: 0 },
    isOpen: true,
    onControl: onlyFromCoordinator({}),
    frames: undefined,
    onFrame: () => {},
    onClose: () => {},
    sendFrame: async () => {},
    ...more,
  };
}
