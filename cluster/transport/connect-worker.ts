import { LantrainError } from '../../src/errors.js';
import type { CoordinatorMessage, WorkerMessage } from '../protocol/protocol.js';
import type { WorkerConnection } from './connection.js';
import type { ConnectionRole } from './connection-role.js';
import { type HandshakeSecrets, workerHandshake } from './handshake.js';
import type { Limits } from './limits.js';
import { MessageConnection } from './message-connection.js';
import { decodeCoordinatorMessage } from './messages.js';
import type { Wire } from './wire.js';

/**
 * A worker's connection on an open WebSocket. Both sides prove that they know the token, within `limits.handshakeMs`.
 * Throws LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION, LT_CLUSTER_LIMIT, LT_CLUSTER_TIMEOUT, or the error with which the other
 * side closed.
 */
export async function connectWorker(
  wire: Wire,
  secrets: HandshakeSecrets,
  limits: Limits,
  more: Pick<ConnectionRole<CoordinatorMessage, WorkerMessage>, 'pingsByMessage'> = {},
): Promise<WorkerConnection> {
  const connection = new MessageConnection<CoordinatorMessage, WorkerMessage>(wire, {
    decode: decodeCoordinatorMessage,
    limits,
    isGuarded: false,
    needsCredit: true,
    ...more,
  });
  const late = new LantrainError('LT_CLUSTER_TIMEOUT', `${wire.peer} did not finish the handshake in time`);
  const timer = setTimeout(() => connection.close(late), limits.handshakeMs);
  try {
    await workerHandshake(connection, secrets);
  } catch (error) {
    if (error instanceof LantrainError) connection.close(error);
    throw error;
  } finally {
    clearTimeout(timer);
  }
  connection.authenticated();
  return connection;
}
