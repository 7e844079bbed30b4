/**
 * Both sides prove that they know the token without showing it: HMAC-SHA-256 under the token over the role, both nonces,
 * the protocol and the certificate's fingerprint. The nonces keep an old proof from being played again, the role one
 * side's proof from being used as the other's, the fingerprint a proof from being passed on to another server.
 */
import { LantrainError } from '../../src/errors.js';
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
import { importToken, randomNonce, type Statement, sign, verify } from './proof.js';

/** What a handshake runs over. */
export interface MessageChannel {
  send(message: Uint8Array): void;
  receive(): Promise<Uint8Array>;
}

export interface HandshakeSecrets {
  readonly token: string;
  /** Of the server's certificate, as in the join URL; empty without TLS or where an authority vouches for it. */
  readonly fingerprint: string;
  /** lantrain's version, for the message when the protocols differ. */
  readonly version: string;
}

/** Throws LT_CLUSTER_VERSION, LT_CLUSTER_TOKEN or LT_CLUSTER_MALFORMED; returns once each side knows the other. */
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

/** The other side of `workerHandshake`; nothing is told to who does not prove the token. */
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

/** The text stays within what a WebSocket's close frame carries. */
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
