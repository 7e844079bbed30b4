import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { LantrainError } from '../../errors.js';
import { closingOf } from '../../net/close.js';
import { FRAME_MS, FrameMeter } from '../../net/frame-meter.js';
import { personOf } from '../../net/person.js';
import { Places, superfluous } from '../../net/places.js';
import { peerOf, refuseUpgrade, upgradeRefusal } from '../../net/upgrade.js';
import { PersonBudgets } from '../../util/budget.js';
import { decodePageMessage, type PageMessage, type PageSecrets } from '../messages.js';
import type { RunControls } from './controls.js';
import { type Asker, HistoryAnswers } from './history-answers.js';
import type { Telemetry } from './telemetry.js';
import { send, watchHandshake } from './watch-handshake.js';
import { DEFAULT_WATCH_LIMITS, type WatchLimits } from './watch-limits.js';

export interface WatchOptions {
  /** With an empty `admin` nobody can control the run. */
  readonly secrets: PageSecrets;
  readonly telemetry: Telemetry;
  readonly controls?: RunControls;
  readonly limits?: Partial<WatchLimits>;
  readonly onRefused?: (error: LantrainError, peer: string) => void;
  /** Called with what an admin did, in words. */
  readonly onControl?: (text: string) => void;
}

/** A page's connection, before or after it has proved the token. */
interface Visitor {
  readonly ws: WebSocket;
  readonly peer: string;
  readonly person: string;
}

interface Watcher extends Visitor, Asker {
  readonly isAdmin: boolean;
  /** Messages that it may still send; refilled over time. */
  allowance: number;
  refilledAt: number;
  /** Since when it has missed updates; undefined while it keeps up. */
  behindSince: number | undefined;
}

/** The pages that watch a run. Costs nothing while there are none. */
export class Watchers {
  readonly #limits: WatchLimits;
  readonly #server: WebSocketServer;
  readonly #watchers = new Set<Watcher>();
  readonly #pending: Places<{ ws?: WebSocket }>;
  readonly #budgets: PersonBudgets;
  readonly #history: HistoryAnswers;
  #timer: NodeJS.Timeout | undefined;
  #saidAt = 0;
  /** The messages for a new page, as of the last update. */
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

  /** Takes a request to `WATCH_PATH` with a checked origin. Calls `proved` once the page has proved the token. */
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
    if (place.leaves?.ws !== undefined)
      sayGoodbye(place.leaves.ws, new LantrainError('LT_CLUSTER_LIMIT', 'others wait'));
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

  /** Sends the last update and closes all connections. */
  close(reason: string): void {
    if (this.#watchers.size > 0) this.flush();
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#history.close();
    const goodbye = new LantrainError('LT_CLUSTER_CLOSED', reason);
    for (const { ws } of [...this.#pending, ...this.#watchers]) if (ws !== undefined) sayGoodbye(ws, goodbye);
  }

  /** Sends the news to all pages at once. */
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
    const timer = setTimeout(
      () => this.#refuse(ws, new LantrainError('LT_CLUSTER_TIMEOUT', 'the handshake was not done in time'), peer),
      this.#limits.handshakeMs,
    );
    try {
      const isAdmin = await watchHandshake(ws, this.options.secrets);
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

  #welcome(watcher: Watcher): void {
    const { ws } = watcher;
    // The pages that are here get the news first, because the snapshot ends with the last update.
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

  /** Charges time to a page's person. Nobody listens to a page in debt until it is paid. */
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
    // Without a watcher it is not kept up to date.
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
    sayGoodbye(ws, error);
    setTimeout(() => ws.terminate(), 2_000).unref();
    this.options.onRefused?.(error, peer);
  }
}

function sayGoodbye(ws: WebSocket, error: LantrainError): void {
  const { code, reason } = closingOf(error);
  ws.close(code, reason);
}
