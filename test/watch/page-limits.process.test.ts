import { get } from 'node:http';
import { afterEach, expect, test, vi } from 'vitest';
import { WebSocket } from 'ws';
import { PersonBudgets } from '../../src/util/budget.js';
import { type Asker, HistoryAnswers } from '../../src/watch/server/history-answers.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import { until } from '../cluster/transport-helpers.js';
import { FACTS, FakePage, SECRETS, stepEvent, type TestPage, testPage } from './helpers.js';

const READER = { ...SECRETS, admin: '' };
/** The address of hostile pages. The honest one is at 127.0.0.1. */
const EVIL = process.platform === 'linux' ? '127.0.0.2' : '127.0.0.1';

const open: TestPage[] = [];
const pages: FakePage[] = [];
afterEach(async () => {
  for (const { ws } of pages.splice(0)) ws.terminate();
  for (const { server } of open.splice(0)) await server.close('the test is over');
});

async function serve(...args: Parameters<typeof testPage>): Promise<TestPage> {
  const test = await testPage(...args);
  open.push(test);
  return test;
}

async function evilPage({ server }: TestPage): Promise<FakePage> {
  const page = await FakePage.enter(server.port, READER, false, EVIL);
  pages.push(page);
  return page;
}

function played(telemetry: Telemetry, steps: number): void {
  for (let step = 1; step <= steps; step++) telemetry.event(stepEvent(step));
}

class Page implements Asker {
  readonly answers: { readonly id: number; readonly columns: { readonly step: readonly number[] } }[] = [];
  ready = true;

  constructor(readonly person: string) {}

  isReady(): boolean {
    return this.ready;
  }

  send(text: string): void {
    this.answers.push(JSON.parse(text));
  }
}

/** A run whose history is slow to look up. */
class SlowTelemetry extends Telemetry {
  lookups = 0;

  constructor(private readonly lookupMs: number) {
    super(FACTS);
    played(this, 100);
  }

  override range(begin: number, end: number, points: number) {
    this.lookups++;
    for (const until = performance.now() + this.lookupMs; performance.now() < until; );
    return super.range(begin, end, points);
  }
}

const sleep = (ms: number) => new Promise((go) => setTimeout(go, ms));

test('history is answered within a budget, the newest request last and surely, and nobody else waits for long', async () => {
  const telemetry = new SlowTelemetry(20);
  const history = new HistoryAnswers(telemetry, new PersonBudgets(20, 100));
  const greedy = [new Page('evil'), new Page('evil')];
  const honest = new Page('honest');
  const began = performance.now();
  let id = 0;
  for (let i = 0; i < 40; i++) {
    for (const page of greedy) history.ask(page, { type: 'range', id: ++id, from: i, to: 50 + i, points: 50 });
    if (i === 20) history.ask(honest, { type: 'range', id: 7, from: 1, to: 3, points: 10 });
    await sleep(20);
  }
  const elapsedMs = performance.now() - began;
  // The burst, its overdraft, and what is refilled in that time.
  expect(telemetry.lookups - honest.answers.length).toBeLessThanOrEqual(2 + (100 + 0.02 * elapsedMs) / 20);
  await until(() => honest.answers.length === 1, "the honest page's answer");
  expect(honest.answers[0]).toMatchObject({ id: 7, columns: { step: [1, 2, 3] } });
  await until(() => greedy.every(({ answers }) => (answers.at(-1)?.id ?? 0) > id - 2), 'the newest requests');
  history.close();
});

test('a request for the whole run and one for a zoom wait side by side; what is known is not looked up again', async () => {
  const telemetry = new SlowTelemetry(0);
  const history = new HistoryAnswers(telemetry, new PersonBudgets(1000, 1000));
  const page = new Page('one');
  page.ready = false;
  for (const id of [0, 1, 2, 0, 3]) history.ask(page, { type: 'range', id, from: 0, to: 10 + id, points: 800 });
  await sleep(150);
  expect(page.answers).toEqual([]);
  page.ready = true;
  await until(() => page.answers.length === 2, 'both answers');
  expect(page.answers.map(({ id }) => id).toSorted()).toEqual([0, 3]);
  expect(telemetry.lookups).toBe(2);
  const other = new Page('two');
  history.ask(other, { type: 'range', id: 9, from: 0, to: 13, points: 800 });
  expect(other.answers).toHaveLength(1);
  expect(telemetry.lookups).toBe(2);
  history.leave(page);
  history.close();
});

test('a page that asks for history without end and reads nothing keeps little in memory', async () => {
  const queueBytes = 100_000;
  const much = { messagesPerSecond: 1e6, msPerSecond: 1e6, burstMs: 1e6 };
  const under = await serve({ queueBytes, behindMs: 60_000, ...much });
  played(under.telemetry, 20_000);
  const sent = vi.spyOn(WebSocket.prototype, 'send');
  const deaf = await evilPage(under);
  deaf.ws.pause();
  const honest = await FakePage.enter(under.server.port, READER);
  pages.push(honest);
  await honest.next('update');
  // The same request repeatedly, which costs the server almost nothing but bytes.
  for (let i = 1; i <= 300; i++) {
    deaf.send({ type: 'range', id: i, from: 0, to: 20_000, points: 4000 });
    await sleep(5);
  }
  const queued = sent.mock.contexts.map((ws) => (ws as WebSocket).bufferedAmount);
  sent.mockRestore();
  expect(Math.max(...queued)).toBeGreaterThan(0);
  expect(Math.max(...queued)).toBeLessThan(queueBytes + 400_000);
  under.telemetry.event(stepEvent(20_001));
  await honest.next('update', (update) => update.steps?.step.includes(20_001) === true);
  honest.send({ type: 'range', id: 1, from: 5, to: 8, points: 10 });
  expect((await honest.next('history', ({ id }) => id === 1)).columns.step).toEqual([5, 6, 7, 8]);
});

test('pages that come and go again are told from one snapshot, and miss nothing after it', async () => {
  const under = await serve({ updateMs: 1e6 });
  played(under.telemetry, 500);
  let snapshots = 0;
  const { telemetry } = under;
  const snapshot = telemetry.snapshot.bind(telemetry);
  telemetry.snapshot = () => {
    snapshots++;
    return snapshot();
  };
  const first = await FakePage.enter(under.server.port, READER);
  pages.push(first);
  telemetry.log('audit', 'a line between two pages');
  for (let i = 0; i < 10; i++) await evilPage(under);
  expect(snapshots).toBe(1);
  const last = pages[pages.length - 1];
  under.watchers.flush();
  for (const page of [first, last]) {
    expect((await page.next('history')).columns.step).toHaveLength(500);
    expect((await page.next('update')).log).toEqual([]);
    expect((await page.next('update')).log).toMatchObject([{ text: 'a line between two pages' }]);
  }
});

test.runIf(EVIL !== '127.0.0.1')(
  'handshakes that stand still, and pages without number, keep nobody else out',
  async () => {
    const under = await serve({ watchers: 8, pending: 4, handshakeMs: 20_000 });
    for (let i = 0; i < 7; i++) await evilPage(under);
    const began = performance.now();
    for (let i = 0; i < 10; i++) pages.push(await FakePage.open(under.server.port, false, EVIL).catch(() => pages[0]));
    expect(under.watchers.count).toBe(7);
    // After a second the oldest are closed for newer ones, which are then not refused.
    if (performance.now() - began < 900) expect(under.refused).toHaveLength(6);
    for (let i = 0; i < 3; i++) {
      const page = await FakePage.enter(under.server.port, READER);
      pages.push(page);
      expect((await page.next('run')).name).toBe(FACTS.name);
    }
    await until(() => under.watchers.count === 8, 'room is made');
  },
);

test('a page is served to who asks for this machine, by its names', async () => {
  const { server } = await serve();
  const status = (path: string, host: string) =>
    new Promise<number | undefined>((resolve, reject) => {
      get({ host: '127.0.0.1', port: server.port, path, headers: { Host: host } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on('error', reject);
    });
  expect(await status('/', `localhost:${server.port}`)).toBe(200);
  expect(await status('/', `evil.example:${server.port}`)).toBe(421);
  expect(await status('/page.js', 'evil.example')).toBe(421);
});
