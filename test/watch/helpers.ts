import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { WebSocket } from 'ws';
import type { LantrainError } from '../../src/errors.js';
import { type Access, loadOrCreateAccess } from '../../src/net/access.js';
import { importToken, randomNonce, sign, verify } from '../../src/net/proof.js';
import type { MetricsEvent, StepEvent } from '../../src/report/metrics.js';
import {
  decodeServerMessage,
  fromHex,
  type PageMessage,
  type PageSecrets,
  type RunFacts,
  type ServerMessage,
  toHex,
  WATCH_PATH,
  WATCH_VERSION,
  watchStatement,
} from '../../src/watch/messages.js';
import { RunControls } from '../../src/watch/server/controls.js';
import { type PageServer, servePage } from '../../src/watch/server/page-server.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import type { WatchLimits } from '../../src/watch/server/watch-limits.js';
import { Watchers } from '../../src/watch/server/watchers.js';
import type { LiveWorker } from '../../src/watch/server/worker-list.js';

export const SECRETS: PageSecrets = { token: 't'.repeat(32), fingerprint: '', admin: 'a'.repeat(32) };

export const FACTS: RunFacts = {
  type: 'run',
  name: 'test-run',
  version: '0.0.1',
  kind: 'cluster',
  model: 'a model',
  data: 'a text',
  adapter: 'none',
  totalSteps: 20_000,
  tokensPerStep: 1024,
  stepsPerEpoch: 1000,
  settings: [['Seed', '42']],
};

/** A plausible step: the loss falls, with noise of a fixed generator. */
export function stepEvent(step: number): StepEvent {
  const noise = Math.sin(step * 12.9898) * 0.5;
  return {
    event: 'step',
    step,
    loss: 1.9 + 3.6 / (1 + step / 300) + 0.12 * noise,
    tokens: 1024,
    tokensPerSecond: 5000 + 400 * noise,
    lr: Math.min(1, step / 200) * 1e-3,
    gradNorm: 0.8 + 2 / (1 + step / 200) + 0.2 * noise,
  };
}

export function liveWorkers(count: number, moment: number): LiveWorker[] {
  return Array.from({ length: count }, (_, i) => ({
    id: i + 1,
    name: `worker-${i + 1}`,
    adapter: 'NVIDIA RTX 4070',
    bitClass: 'a3f082fd8f0e-85729a31a95a',
    exact: true,
    state: 'computing' as const,
    dealt: 4,
    done: moment % 5,
    roundTripMs: 1 + (i % 7),
    totals: {
      workMs: moment * 180,
      computeMs: moment * 160,
      uploadMs: moment * 12,
      downloadMs: moment * 9,
      waitMs: moment * 5,
      tokens: moment * (20 + i),
    },
  }));
}

export interface TestPage {
  readonly secrets: PageSecrets;
  readonly server: PageServer;
  readonly telemetry: Telemetry;
  readonly controls: RunControls;
  readonly watchers: Watchers;
  readonly refused: LantrainError[];
  readonly acted: string[];
  /** The page's URL with a fragment, for watchers or for admins. */
  url(fragment: string): string;
}

export interface PlayedRun {
  /** Over TLS with a new certificate, like a coordinator on the LAN. */
  readonly secure?: boolean;
  readonly facts?: Partial<RunFacts>;
  readonly past?: readonly MetricsEvent[];
  /** Milliseconds. */
  readonly now?: () => number;
}

/** A page server of a run whose events the test makes. */
export async function testPage(limits: Partial<WatchLimits> = {}, played: PlayedRun = {}): Promise<TestPage> {
  const access = played.secure ? await newAccess() : undefined;
  const secrets = { ...SECRETS, fingerprint: access?.fingerprint ?? '' };
  const stop = new AbortController();
  const telemetry = new Telemetry({ ...FACTS, ...played.facts }, played.past, played.now, stop.signal);
  const acted: string[] = [];
  const controls = new RunControls(
    {
      stop: () => {
        acted.push('stop');
        stop.abort();
      },
      save: () => acted.push('save') === acted.indexOf('save') + 1,
      drop: (worker) => (worker === 1 ? 'worker-1' : false),
      changed: () => {
        telemetry.paused = controls.paused;
      },
    },
    stop.signal,
  );
  const refused: LantrainError[] = [];
  const watchers = new Watchers({
    secrets,
    telemetry,
    controls,
    limits: { updateMs: 30, ...limits },
    onRefused: (error) => refused.push(error),
    onControl: (text) => acted.push(text),
  });
  const site = resolve('dist/page');
  const onRefused = (error: LantrainError) => refused.push(error);
  const server = await servePage({ host: '127.0.0.1', port: 0, tls: access, site, watchers, onRefused });
  const url = (fragment: string) => `${access ? 'https' : 'http'}://127.0.0.1:${server.port}/${fragment}`;
  return { secrets, server, telemetry, controls, watchers, refused, acted, url };
}

export async function newAccess(): Promise<Access> {
  const folder = await mkdtemp(join(tmpdir(), 'lantrain-access-'));
  try {
    return await loadOrCreateAccess(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A page without a browser: says hello and proves tokens. */
export class FakePage {
  readonly messages: ServerMessage[] = [];
  readonly closed: Promise<string>;
  bytes = 0;
  #wake: () => void = () => {};

  private constructor(readonly ws: WebSocket) {
    ws.on('message', (data) => {
      this.bytes += String(data).length;
      const message = decodeServerMessage(String(data));
      if (message === undefined) throw new Error(`not a message: ${String(data).slice(0, 200)}`);
      this.messages.push(message);
      this.#wake();
    });
    this.closed = once(ws, 'close').then(([, reason]) => String(reason));
    // The opener gets the error; nobody may be waiting for `closed`.
    this.closed.catch(() => undefined);
  }

  /** `localAddress`: the address to connect from. */
  static async open(port: number, secure = false, localAddress?: string): Promise<FakePage> {
    const url = `${secure ? 'wss' : 'ws'}://127.0.0.1:${port}${WATCH_PATH}`;
    const from = localAddress === undefined ? {} : { localAddress };
    const page = new FakePage(new WebSocket(url, { rejectUnauthorized: false, ...from }));
    await once(page.ws, 'open');
    return page;
  }

  /** Resolves once it is let in; rejects with why it is not. */
  static async enter(port: number, secrets: PageSecrets, secure = false, localAddress?: string): Promise<FakePage> {
    const page = await FakePage.open(port, secure, localAddress);
    const nonce = randomNonce();
    const admin = secrets.admin !== '';
    page.send({ type: 'hello', version: WATCH_VERSION, nonce: toHex(nonce), admin });
    const theirs = fromHex((await page.next('challenge')).nonce);
    const key = await importToken(secrets.token);
    const statement = (role: 'watcher' | 'admin' | 'server') =>
      watchStatement(role, nonce, theirs, secrets.fingerprint);
    const proof = toHex(await sign(key, statement('watcher')));
    const adminProof = admin ? toHex(await sign(await importToken(secrets.admin), statement('admin'))) : undefined;
    page.send({ type: 'proof', proof, ...(adminProof === undefined ? {} : { adminProof }) });
    const accepted = await page.next('accepted');
    if (!(await verify(key, statement('server'), fromHex(accepted.proof))))
      throw new Error('the server proves nothing');
    return page;
  }

  send(message: PageMessage): void {
    this.ws.send(JSON.stringify(message));
  }

  /** The next message of this type that was not returned yet. */
  async next<T extends ServerMessage['type']>(
    type: T,
    fits: (message: Extract<ServerMessage, { type: T }>) => boolean = () => true,
  ): Promise<Extract<ServerMessage, { type: T }>> {
    for (;;) {
      const index = this.messages.findIndex((m) => m.type === type && fits(m as Extract<ServerMessage, { type: T }>));
      if (index >= 0) return this.messages.splice(index, 1)[0] as Extract<ServerMessage, { type: T }>;
      const woken = new Promise<void>((wake) => {
        this.#wake = wake;
      });
      const end = await Promise.race([woken, this.closed]);
      if (typeof end === 'string') throw new Error(end);
    }
  }
}
