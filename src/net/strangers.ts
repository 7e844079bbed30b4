import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Budget, PersonBudgets } from '../util/budget.js';
import { type HostOptions, Hosts, misdirected } from './hosts.js';
import { personOf } from './person.js';
import { Places } from './places.js';
import { peerOf, type UpgradeRefusal, upgradeRefusal } from './upgrade.js';

/** Limits of connections that have not proved a token. Tests make them small. */
export interface StrangerLimits {
  /** Open sockets: enough for thirty browsers of a classroom with six sockets each. */
  readonly sockets: number;
  /** New sockets of one address a second, and the burst after a rest: a TLS handshake takes the server's time. */
  readonly socketsPerSecond: number;
  readonly socketsAtOnce: number;
  /** Milliseconds until a request has arrived whole, and until its answer is read. */
  readonly requestMs: number;
  readonly answerMs: number;
  /** Requests on one socket. */
  readonly requests: number;
}

export const DEFAULT_STRANGER_LIMITS: StrangerLimits = {
  sockets: 256,
  socketsPerSecond: 50,
  socketsAtOnce: 250,
  requestMs: 10_000,
  answerMs: 30_000,
  requests: 100,
};

const HEADER_BYTES = 8192;

/** A socket without a proved token: an open TCP connection, in a TLS handshake, or with HTTP requests. */
interface Stranger {
  readonly raw: Socket;
  readonly ends: string;
  deadline: NodeJS.Timeout;
}

/**
 * Everybody who connects to a server, from the first packet until they have proved a token. Limits their number, their
 * time and their HTTP requests. Bytes that trickle in do not extend the time.
 */
export class Strangers {
  readonly #limits: StrangerLimits;
  readonly #hosts: Hosts;
  readonly #places: Places<Stranger>;
  readonly #arrivals: PersonBudgets;
  /** By the addresses of both ends: over TLS, the socket of a request is not the one that connected. */
  readonly #strangers = new Map<string, Stranger>();
  readonly #sockets = new Set<Socket>();
  /** Sockets with a current request, and the arrival budget of their person. */
  readonly #busy = new WeakMap<Socket, Budget>();

  constructor(options: HostOptions, limits: Partial<StrangerLimits> = {}) {
    this.#limits = { ...DEFAULT_STRANGER_LIMITS, ...limits };
    this.#hosts = new Hosts(options);
    this.#places = new Places(this.#limits.sockets);
    this.#arrivals = new PersonBudgets(this.#limits.socketsPerSecond, this.#limits.socketsAtOnce);
  }

  /** Options for `createServer` of http and https. */
  get serverOptions() {
    const { requestMs } = this.#limits;
    return {
      maxHeaderSize: HEADER_BYTES,
      keepAliveTimeout: 5_000,
      headersTimeout: requestMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: 1_000,
      handshakeTimeout: requestMs,
    };
  }

  get count(): number {
    return this.#places.size;
  }

  watch(http: Server): void {
    http.maxRequestsPerSocket = this.#limits.requests;
    http.on('dropRequest', (_, socket) => socket.destroy());
    http.on('connection', (socket) => this.#connected(socket as Socket));
  }

  /** The socket has become a WebSocket, whose handshake has its own time limit. It still counts. */
  upgraded(socket: Socket): void {
    clearTimeout(this.#strangers.get(endsOf(socket))?.deadline);
  }

  /** The other end has proved a token: the socket does not count any more. */
  proved(socket: Socket): void {
    const stranger = this.#strangers.get(endsOf(socket));
    if (stranger !== undefined) this.#forget(stranger);
  }

  /** Ends all connections, proved ones too. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The refusal of an upgrade for another host than this machine; undefined where the host is right. */
  refusal({ headers: { host } }: IncomingMessage): UpgradeRefusal | undefined {
    if (this.#hosts.includes(host)) return undefined;
    return upgradeRefusal('421 Misdirected Request', 'LT_CLUSTER_URL', misdirected(host));
  }

  /** Whether a socket is still busy with an earlier request. If so, it is closed. */
  isPipelined(socket: Socket): boolean {
    const arrivals = this.#busy.get(socket);
    // The parser continues through what has arrived, maybe a thousand requests: ten count as one socket.
    arrivals?.charge(0.1);
    if (arrivals !== undefined) socket.destroy();
    return arrivals !== undefined || socket.destroyed;
  }

  /** Wraps `listener`: it gets requests one by one, and only those for this machine. */
  only(listener: RequestListener): RequestListener {
    return (request, response) => {
      const { socket } = request;
      if (this.isPipelined(socket)) return;
      this.#busy.set(socket, this.#arrivals.of(personOf(peerOf(socket))));
      for (const event of ['finish', 'close']) response.once(event, () => this.#busy.delete(socket));
      this.#answering(socket, response);
      const hasBody =
        request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length']) > 0;
      // The body of such a request is not read.
      if (hasBody) response.setHeader('Connection', 'close');
      const { host } = request.headers;
      if (this.#hosts.includes(host)) return listener(request, response);
      response.writeHead(421, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close', Server: 'lantrain' });
      response.end(`${misdirected(host)}\n`);
    };
  }

  #connected(raw: Socket): void {
    const person = personOf(peerOf(raw));
    const arrivals = this.#arrivals.of(person);
    const deadline = setTimeout(() => raw.destroy(), this.#limits.requestMs).unref();
    const stranger: Stranger = { raw, ends: endsOf(raw), deadline };
    // A socket is charged only while there is no debt; refused sockets do not add to it.
    const isLate = arrivals.waitMs() > 0;
    if (!isLate) arrivals.charge(1);
    const place = isLate ? 'full' : this.#places.take(stranger, person);
    if (place === 'full') {
      clearTimeout(stranger.deadline);
      raw.on('error', () => {});
      raw.destroy();
      return;
    }
    this.#strangers.set(stranger.ends, stranger);
    this.#sockets.add(raw);
    raw.on('close', () => {
      this.#sockets.delete(raw);
      this.#forget(stranger);
    });
    place.leaves?.raw.destroy();
  }

  /** Sets the time limit of the answer, then that of the next request. */
  #answering(socket: Socket, response: ServerResponse): void {
    const stranger = this.#strangers.get(endsOf(socket));
    if (stranger === undefined) return;
    const within = (milliseconds: number) => {
      clearTimeout(stranger.deadline);
      if (this.#strangers.get(stranger.ends) === stranger)
        stranger.deadline = setTimeout(() => stranger.raw.destroy(), milliseconds).unref();
    };
    within(this.#limits.answerMs);
    response.once('finish', () => within(this.#limits.requestMs));
  }

  #forget(stranger: Stranger): void {
    clearTimeout(stranger.deadline);
    this.#places.leave(stranger);
    if (this.#strangers.get(stranger.ends) === stranger) this.#strangers.delete(stranger.ends);
  }
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return [remoteAddress, remotePort, localAddress, localPort].join(' ');
}
