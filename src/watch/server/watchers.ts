import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { LantrainError } from '../../errors.js';
import { FRAME_MS, FrameMeter } from '../../net/frame-meter.js';
import { personOf } from '../../net/person.js';
import { Places, superfluous } from '../../net/places.js';
import { importToken, randomNonce, sign, verify } from '../../net/proof.js';
import { peerOf, refuseUpgrade, upgradeRefusal } from '../../net/upgrade.js';
import { PersonBudgets } from '../../util/budget.js';
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
import type { RunControls } from './controls.js';
import { type Asker, HistoryAnswers } from './history-answers.js';
import type { Telemetry } from './telemetry.js';

/** What watchers are allowed; tests make it small. */
export interface WatchLimits {
  readonly watchers: number;
  readonly pending: number;
  readonly handshakeMs: number;
  readonly messageBytes: number;
  /** Messages of one watcher in a second, and in a burst. */
  readonly messagesPerSecond: number;
  /** Milliseconds in a second, and at once after a rest, that all watchers of one address may take. */
  readonly msPerSecond: number;
  readonly burstMs: number;
  /** Updates are not sent to who has this much to read still; who stays behind is closed. */
  readonly queueBytes: number;
  readonly behindMs: number;
  /** Between updates, and at most between two signs of life. */
  readonly updateMs: number;
  readonly beatMs: number;
}

export const DEFAULT_WATCH_LIMITS: WatchLimits = {
  watchers: 32,
  pending: 16,
  handshakeMs: 10_000,
  messageBytes: 4096,
  messagesPerSecond: 40,
  msPerSecond: 20,
  burstMs: 200,
  queueBytes: 2 ** 20,
  behindMs: 20_000,
  updateMs: 500,
  beatMs: 5_000,
};

export interface WatchOptions {
  /** An empty `admin` lets nobody control anything. */
  readonly secrets: PageSecrets;
  readonly telemetry: Telemetry;
  readonly controls?: RunControls;
  readonly limits?: Partial<WatchLimits>;
  readonly onRefused?: (error: LantrainError, peer: string) => void;
  /** What an admin did. */
  readonly onControl?: (text: string) => void;
}

/** Close codes, as of workers' connections. */
const CLOSE_NORMAL = 1000;
const CLOSE_ERROR = 4000;

/** A page that proves that it knows the token, or has not done so yet. */
interface Visitor {
  readonly ws: WebSocket;
  readonly peer: string;
  readonly person: string;
}

interface Watcher extends Visitor, Asker {
  readonly isAdmin: boolean;
  /** Messages that it may still send, refilled as time goes on. */
  allowance: number;
  refilledAt: number;
  /** Since when it has missed updates. */
  behindSince: number | undefined;
}

/** The pages that watch a run: who they are, and what they are told. Costs nothing while there are none. */
export class Watchers {
  readonly #limits: WatchLimits;
  readonly #server: WebSocketServer;
  readonly #watchers = new Set<Watcher>();
  readonly #pending: Places<{ ws?: WebSocket }>;
  readonly #budgets: PersonBudgets;
  readonly #history: HistoryAnswers;
  #timer: NodeJS.Timeout | undefined;
  #saidAt = 0;
  /** What whoever comes is told, as of the last update. */
  #snapshot: readonly string[] | undefined;

  constructor(private readonly options: WatchOptions) {
    this.#limits = { ...DEFAULT_WATCH_LIMITS, ...options.limits };
    this.#pending = new Places(this.#limits.pending);
    this.#budgets = new PersonBudgets(this.#limits.msPerSecond, this.#limits.burstMs);
    this.#history = new HistoryAnswers(options.telemetry, this.#budgets);
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: this.#limits.messageBytes,
    });
  }

  get count(): number {
    return this.#watchers.size;
  }

  /** For a request to `WATCH_PATH` whose origin is in order. `proved` is called once it has shown the token. */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer, proved: () => void = () => {}): void {
    const peer = peerOf(socket);
    const person = personOf(peer);
    const pending: { ws?: WebSocket } = {};
    const place = this.#hasRoom(person) ? this.#pending.take(pending, person) : 'full';
    if (place === 'full') {
      const refusal = upgradeRefusal('503 Service Unavailable', 'LT_CLUSTER_LIMIT', 'too many pages are open');
      this.options.onRefused?.(refusal.error, peer);
      refuseUpgrade(socket, refusal);
      return;
    }
    place.leaves?.ws?.close(CLOSE_ERROR, 'LT_CLUSTER_LIMIT: others wait');
    socket.once('close', () => this.#pending.leave(pending));
    this.#server.handleUpgrade(request, socket, head, (ws) => {
      pending.ws = ws;
      const meter = new FrameMeter();
      socket.on('data', (chunk: Buffer) => {
        const before = meter.frames;
        meter.read(chunk);
        this.#charge({ ws, person }, (meter.frames - before) * FRAME_MS);
      });
      void this.#admit({ ws, peer, person }, proved).finally(() => this.#pending.leave(pending));
    });
  }

  /** Says the last things, then goodbye. */
  close(reason: string): void {
    if (this.#watchers.size > 0) this.flush();
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#history.close();
    for (const { ws } of [...this.#pending, ...this.#watchers]) ws?.close(CLOSE_NORMAL, reason.slice(0, 100));
  }

  /** Tells everybody at once what is new. */
  flush(): void {
    const update = this.options.telemetry.update();
    if (update !== undefined) this.#snapshot = undefined;
    const now = performance.now();
    if (update === undefined && now - this.#saidAt < this.#limits.beatMs) return;
    this.#saidAt = now;
    const { telemetry } = this.options;
    const text = JSON.stringify(update ?? { type: 'update', status: telemetry.status });
    for (const watcher of this.#watchers) {
      const isBehind = watcher.ws.bufferedAmount > this.#limits.queueBytes;
      if (!isBehind && watcher.behindSince !== undefined) this.#begin(watcher);
      else if (!isBehind) watcher.ws.send(text);
      else {
        watcher.behindSince ??= now;
        if (now - watcher.behindSince > this.#limits.behindMs) watcher.ws.terminate();
      }
    }
  }

  #hasRoom(person: string): boolean {
    return this.#watchers.size < this.#limits.watchers || this.#superfluous(person) !== undefined;
  }

  #superfluous(newcomer: string): Watcher | undefined {
    return superfluous(this.#watchers, ({ person }) => person, this.#limits.watchers, newcomer);
  }

  async #admit(visitor: Visitor, proved: () => void): Promise<void> {
    const { ws, peer, person } = visitor;
    const inbox = new HandshakeInbox(ws);
    const timer = setTimeout(
      () => this.#refuse(ws, new LantrainError('LT_CLUSTER_TIMEOUT', 'the handshake was not done in time'), peer),
      this.#limits.handshakeMs,
    );
    try {
      const isAdmin = await this.#handshake(ws, inbox);
      if (ws.readyState !== ws.OPEN) return;
      const many = new LantrainError('LT_CLUSTER_LIMIT', 'too many pages are open');
      if (!this.#hasRoom(person)) throw many;
      const superfluous = this.#watchers.size < this.#limits.watchers ? undefined : this.#superfluous(person);
      if (superfluous !== undefined) this.#end(superfluous, many);
      proved();
      this.#welcome({
        ...visitor,
        isAdmin,
        allowance: this.#limits.messagesPerSecond,
        refilledAt: performance.now(),
        behindSince: undefined,
        isReady: () => ws.readyState === ws.OPEN && ws.bufferedAmount <= this.#limits.queueBytes,
        send: (text) => ws.send(text),
      });
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      this.#refuse(ws, error, peer);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether it is an admin. Throws LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION or LT_CLUSTER_MALFORMED. */
  async #handshake(ws: WebSocket, inbox: HandshakeInbox): Promise<boolean> {
    const { token, fingerprint, admin } = this.options.secrets;
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
        throw new LantrainError(
          'LT_CLUSTER_TOKEN',
          'wrong admin token; use the admin link that the coordinator prints',
        );
    }
    const own = await sign(key, watchStatement('server', theirs, nonce, fingerprint));
    send(ws, { type: 'accepted', proof: toHex(own), admin: hello.admin });
    inbox.end();
    return hello.admin;
  }

  #welcome(watcher: Watcher): void {
    const { ws } = watcher;
    // Who is here already learns what is new first: the snapshot ends where the last update did.
    if (this.#snapshot === undefined) this.flush();
    this.#watchers.add(watcher);
    ws.on('message', (data, isBinary) => {
      const began = performance.now();
      this.#heard(watcher, isBinary ? undefined : String(data));
      this.#charge(watcher, performance.now() - began);
    });
    ws.on('close', () => this.#left(watcher));
    this.#begin(watcher);
    this.#timer ??= setInterval(() => this.flush(), this.#limits.updateMs);
  }

  /** Who takes too much time is not listened to for a while. */
  #charge({ ws, person }: Pick<Visitor, 'ws' | 'person'>, milliseconds: number): void {
    const budget = this.#budgets.of(person);
    budget.charge(milliseconds);
    const waitMs = budget.waitMs();
    if (waitMs === 0 || ws.isPaused) return;
    ws.pause();
    setTimeout(() => ws.resume(), waitMs).unref();
  }

  #begin(watcher: Watcher): void {
    watcher.behindSince = undefined;
    this.#snapshot ??= this.options.telemetry.snapshot().map((message) => JSON.stringify(message));
    if (watcher.ws.readyState === watcher.ws.OPEN) for (const text of this.#snapshot) watcher.ws.send(text);
  }

  #left(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    this.#history.leave(watcher);
    if (this.#watchers.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    // Nobody keeps it up to date.
    this.#snapshot = undefined;
  }

  #heard(watcher: Watcher, text: string | undefined): void {
    const now = performance.now();
    const { messagesPerSecond } = this.#limits;
    const refill = ((now - watcher.refilledAt) / 1000) * messagesPerSecond;
    watcher.allowance = Math.min(messagesPerSecond, watcher.allowance + refill) - 1;
    watcher.refilledAt = now;
    const message = decodePageMessage(text);
    if (watcher.ws.readyState !== watcher.ws.OPEN) return;
    if (watcher.allowance < 0) this.#end(watcher, new LantrainError('LT_CLUSTER_LIMIT', 'too many messages'));
    else if (message?.type === 'range') this.#history.ask(watcher, message);
    else if (message?.type === 'control') this.#control(watcher, message);
    else this.#end(watcher, new LantrainError('LT_CLUSTER_MALFORMED', 'a page sent what is no message'));
  }

  #control(watcher: Watcher, { action, worker }: Extract<PageMessage, { type: 'control' }>): void {
    const { controls } = this.options;
    if (!watcher.isAdmin || controls === undefined) {
      send(watcher.ws, { type: 'answer', action, text: 'only the admin link may do that' });
      return;
    }
    const text = controls.act(action, worker);
    this.options.onControl?.(text);
    send(watcher.ws, { type: 'answer', action, text });
    this.flush();
  }

  #end({ ws, peer }: Watcher, error: LantrainError): void {
    this.#refuse(ws, error, peer);
  }

  #refuse(ws: WebSocket, error: LantrainError, peer: string): void {
    if (ws.readyState !== ws.OPEN) return;
    ws.close(CLOSE_ERROR, `${error.code}: ${error.message}`.slice(0, 120));
    setTimeout(() => ws.terminate(), 2_000).unref();
    this.options.onRefused?.(error, peer);
  }
}

function send(ws: WebSocket, message: ServerMessage): void {
  if (ws.readyState === ws.OPEN) ws.send(JSON.stringify(message));
}

/** The messages of a handshake, each asked for by its type. */
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
