import type { WebSocket } from 'ws';
import { LantrainError } from '../../errors.js';
import { importToken, randomNonce, sign, verify } from '../../net/proof.js';
import {
  decodePageMessage,
  fromHex,
  type PageMessage,
  type PageSecrets,
  type ServerMessage,
  toHex,
  WATCH_VERSION,
  watchStatement,
} from '../messages.js';

export function send(ws: WebSocket, message: ServerMessage): void {
  if (ws.readyState === ws.OPEN) ws.send(JSON.stringify(message));
}

/**
 * The server's side of the handshake, in which a page proves the token. Resolves with whether the page is an admin's.
 * Throws LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION, LT_CLUSTER_MALFORMED, or LT_CLUSTER_CLOSED where the page leaves.
 */
export async function watchHandshake(ws: WebSocket, { token, fingerprint, admin }: PageSecrets): Promise<boolean> {
  const inbox = new HandshakeInbox(ws);
  const nonce = randomNonce();
  const hello = await inbox.next('hello');
  if (hello.version !== WATCH_VERSION)
    throw new LantrainError('LT_CLUSTER_VERSION', 'this page is of another version; load it again');
  send(ws, { type: 'challenge', version: WATCH_VERSION, nonce: toHex(nonce) });
  const { proof, adminProof = '' } = await inbox.next('proof');
  const theirs = fromHex(hello.nonce);
  const key = await importToken(token);
  if (!(await verify(key, watchStatement('watcher', theirs, nonce, fingerprint), fromHex(proof))))
    throw new LantrainError('LT_CLUSTER_TOKEN', 'wrong token; use the link that the coordinator prints');
  if (hello.admin) {
    const adminKey = await importToken(admin || toHex(randomNonce()));
    if (!(await verify(adminKey, watchStatement('admin', theirs, nonce, fingerprint), fromHex(adminProof))))
      throw new LantrainError('LT_CLUSTER_TOKEN', 'wrong admin token; use the admin link that the coordinator prints');
  }
  const own = await sign(key, watchStatement('server', theirs, nonce, fingerprint));
  send(ws, { type: 'accepted', proof: toHex(own), admin: hello.admin });
  inbox.end();
  return hello.admin;
}

/** The messages of a handshake, taken one by one by type. */
class HandshakeInbox {
  readonly #messages: (PageMessage | undefined)[] = [];
  #wake: () => void = () => {};
  #closed = false;
  readonly #listener: (data: unknown, isBinary: boolean) => void;

  constructor(readonly ws: WebSocket) {
    this.#listener = (data, isBinary) => {
      this.#messages.push(isBinary ? undefined : decodePageMessage(String(data)));
      if (this.#messages.length > 2) ws.terminate();
      this.#wake();
    };
    ws.on('message', this.#listener);
    ws.on('error', () => {});
    ws.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  async next<T extends PageMessage['type']>(type: T): Promise<Extract<PageMessage, { type: T }>> {
    while (this.#messages.length === 0) {
      if (this.#closed) throw new LantrainError('LT_CLUSTER_CLOSED', 'a page left before it was let in');
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    const message = this.#messages.shift();
    if (message?.type === type) return message as Extract<PageMessage, { type: T }>;
    throw new LantrainError('LT_CLUSTER_MALFORMED', 'a page sent what is no message');
  }

  end(): void {
    this.ws.off('message', this.#listener);
  }
}
