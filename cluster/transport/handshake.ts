/**
 * Both sides prove that they know the token without sending it: HMAC-SHA-256, keyed by the token, of the role, both
 * nonces, the protocol and the certificate's fingerprint. The nonces prevent a replay of an old proof. The role
 * prevents that one side's proof is used as the other's. The fingerprint prevents that a proof is relayed to another
 * server.
 */
import { LantrainError } from '../../src/errors.js';
import { importToken, randomNonce, type Statement, sign, verify } from '../../src/net/proof.js';
import { malformed } from '../protocol/malformed.js';
import { PROTOCOL_VERSION } from '../protocol/protocol.js';
import {
  decodeCoordinatorMessage,
  decodeWorkerMessage,
  encodeMessage,
  type FromCoordinator,
  type FromWorker,
  peekVersion,
} from './messages.js';

/** The channel of a handshake. */
export interface MessageChannel {
  send(message: Uint8Array): void;
  receive(): Promise<Uint8Array>;
}

export interface HandshakeSecrets {
  readonly token: string;
  /** Fingerprint of the server's certificate, as in the join URL; empty without TLS. */
  readonly fingerprint: string;
  /** lantrain's version, for the error message if the protocols differ. */
  readonly version: string;
}

/**
 * The worker's side. Resolves once both sides are authenticated. Throws LT_CLUSTER_VERSION, LT_CLUSTER_TOKEN or
 * LT_CLUSTER_MALFORMED.
 */
export async function workerHandshake(channel: MessageChannel, secrets: HandshakeSecrets): Promise<void> {
  const nonce = randomNonce();
  const { version } = secrets;
  channel.send(encodeMessage({ type: 'hello', protocol: PROTOCOL_VERSION, version, nonce }));
  const answer = await channel.receive();
  checkVersion(answer, 'coordinator', version);
  const challenge = expect(decodeCoordinatorMessage(answer), 'challenge');
  const transcript = { worker: nonce, coordinator: challenge.nonce };
  const key = await importToken(secrets.token);
  const proof = await sign(key, statement('worker', transcript, secrets.fingerprint));
  channel.send(encodeMessage({ type: 'proof', proof }));
  const accepted = expect(decodeCoordinatorMessage(await channel.receive()), 'accepted');
  if (!(await verify(key, statement('coordinator', transcript, secrets.fingerprint), accepted.proof)))
    throw new LantrainError('LT_CLUSTER_TOKEN', 'the coordinator does not know the token; check the join URL');
}

/** The coordinator's side. Reveals nothing to a peer that does not prove the token. Throws like `workerHandshake`. */
export async function coordinatorHandshake(channel: MessageChannel, secrets: HandshakeSecrets): Promise<void> {
  const nonce = randomNonce();
  const { version } = secrets;
  const first = await channel.receive();
  checkVersion(first, 'worker', version);
  const hello = expect(decodeWorkerMessage(first), 'hello');
  channel.send(encodeMessage({ type: 'challenge', protocol: PROTOCOL_VERSION, version, nonce }));
  const { proof } = expect(decodeWorkerMessage(await channel.receive()), 'proof');
  const transcript = { worker: hello.nonce, coordinator: nonce };
  const key = await importToken(secrets.token);
  if (!(await verify(key, statement('worker', transcript, secrets.fingerprint), proof)))
    throw new LantrainError('LT_CLUSTER_TOKEN', 'wrong token; use the join URL that the coordinator prints');
  const own = await sign(key, statement('coordinator', transcript, secrets.fingerprint));
  channel.send(encodeMessage({ type: 'accepted', proof: own }));
}

/** Throws LT_CLUSTER_VERSION. The text is short enough for a WebSocket's close frame. */
function checkVersion(message: Uint8Array, peer: 'worker' | 'coordinator', version: string): void {
  const found = peekVersion(message);
  if (found.protocol === PROTOCOL_VERSION) return;
  const own = peer === 'worker' ? 'coordinator' : 'worker';
  const theirs = `${peer} speaks protocol ${found.protocol} (lantrain ${found.version.slice(0, 12)})`;
  throw new LantrainError('LT_CLUSTER_VERSION', `${theirs}, ${own} ${PROTOCOL_VERSION} (${version.slice(0, 12)})`);
}

function expect<M extends FromWorker | FromCoordinator, T extends M['type']>(
  message: M,
  type: T,
): Extract<M, { type: T }> {
  if (message.type !== type) throw malformed(`${message.type} where ${type} was due`);
  return message as Extract<M, { type: T }>;
}

interface Transcript {
  readonly worker: Uint8Array;
  readonly coordinator: Uint8Array;
}

function statement(role: string, { worker, coordinator }: Transcript, fingerprint: string): Statement {
  return { words: `lantrain ${PROTOCOL_VERSION} ${role} ${fingerprint} `, nonces: [worker, coordinator] };
}
