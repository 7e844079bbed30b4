import { importToken, randomNonce, sign, verify } from '../../net/proof.js';
import { printableLine } from '../../util/printable.js';
import {
  decodeServerMessage,
  fromHex,
  type PageMessage,
  type PageSecrets,
  type ServerMessage,
  toHex,
  WATCH_PATH,
  WATCH_VERSION,
  watchStatement,
} from '../messages.js';

export type ConnectionState =
  | { readonly state: 'connecting' }
  | { readonly state: 'open'; readonly admin: boolean }
  /** It is tried again. */
  | { readonly state: 'lost'; readonly why: string }
  /** It is not tried again. */
  | { readonly state: 'refused'; readonly why: string };

const RETRY_MS = 1000;
const MOST_RETRY_MS = 15_000;
/** The server sends a message at least every 5 seconds, so two are missing. */
const SILENCE_MS = 12_000;

/** The page's connection to the run: connects, proves the token, and reconnects when the connection breaks. */
export class PageConnection {
  #ws: WebSocket | undefined;
  #retryMs = RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly secrets: PageSecrets,
    private readonly onMessage: (message: ServerMessage) => void,
    private readonly onState: (state: ConnectionState) => void,
  ) {
    addEventListener('online', () => this.#again(0));
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.#ws === undefined && this.#timer !== undefined) this.#again(0);
    });
    this.#open();
  }

  send(message: PageMessage): void {
    if (this.#ws?.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify(message));
  }

  #open(): void {
    this.onState({ state: 'connecting' });
    const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${WATCH_PATH}`);
    this.#ws = ws;
    const handshake = this.#handshake(ws);
    let isIn = false;
    const take = async (data: unknown) => {
      const message = decodeServerMessage(data);
      if (message === undefined) ws.close(4000, 'not understood');
      else if (isIn) this.onMessage(message);
      else isIn = await handshake(message);
    };
    // The handshake is asynchronous, and later messages must wait for it.
    let taken: Promise<void> = Promise.resolve();
    ws.onmessage = ({ data }) => {
      this.#heard(ws);
      taken = taken
        .then(() => take(data))
        .catch((error) => {
          ws.onmessage = null;
          ws.onclose = null;
          ws.close();
          this.#refused(error instanceof Error ? error.message : String(error));
        });
    };
    ws.onclose = ({ reason }) => this.#closed(reason);
    this.#heard(ws);
  }

  /** Returns the handler of the handshake's messages. It resolves with true once both sides have proved the token. */
  #handshake(ws: WebSocket): (message: ServerMessage) => Promise<boolean> {
    const { token, fingerprint, admin } = this.secrets;
    const nonce = randomNonce();
    ws.onopen = () => this.send({ type: 'hello', version: WATCH_VERSION, nonce: toHex(nonce), admin: admin !== '' });
    let theirs: Uint8Array | undefined;
    return async (message) => {
      const key = await importToken(token);
      if (message.type === 'challenge') {
        if (message.version !== WATCH_VERSION) throw new Error('This page is of another version; load it again.');
        theirs = fromHex(message.nonce);
        const proof = toHex(await sign(key, watchStatement('watcher', nonce, theirs, fingerprint)));
        const statement = watchStatement('admin', nonce, theirs, fingerprint);
        const adminProof = admin === '' ? undefined : toHex(await sign(await importToken(admin), statement));
        this.send({ type: 'proof', proof, ...(adminProof === undefined ? {} : { adminProof }) });
        return false;
      }
      if (message.type !== 'accepted' || theirs === undefined) throw new Error('The server says the unexpected.');
      const proves = await verify(key, watchStatement('server', nonce, theirs, fingerprint), fromHex(message.proof));
      if (!proves) throw new Error('The server does not know the token: this is not the run that the link is for.');
      this.#retryMs = RETRY_MS;
      this.onState({ state: 'open', admin: message.admin });
      return true;
    };
  }

  #heard(ws: WebSocket): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      ws.onclose = null;
      ws.close();
      this.#closed('nothing was heard of it');
    }, SILENCE_MS);
  }

  #closed(reason: string): void {
    clearTimeout(this.#silence);
    this.#ws = undefined;
    if (/^LT_CLUSTER_(TOKEN|VERSION)/.test(reason)) {
      this.#refused(printableLine(reason.replace(/^LT_\w+: /, '')));
      return;
    }
    const why = printableLine(reason.replace(/^LT_\w+: /, '')) || 'the line to the run broke';
    this.onState({ state: 'lost', why });
    this.#again(this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, MOST_RETRY_MS);
  }

  #refused(why: string): void {
    clearTimeout(this.#silence);
    this.#ws = undefined;
    this.onState({ state: 'refused', why });
  }

  #again(afterMs: number): void {
    if (this.#ws !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#open();
    }, afterMs);
  }
}
