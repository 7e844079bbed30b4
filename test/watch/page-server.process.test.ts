import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { StepHistory } from '../../src/watch/server/step-history.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import { FACTS, FakePage, liveWorkers, SECRETS, stepEvent, type TestPage, testPage } from './helpers.js';

const open: TestPage[] = [];
afterEach(async () => {
  for (const { server } of open.splice(0)) await server.close('the test is over');
});

async function serve(...args: Parameters<typeof testPage>): Promise<TestPage> {
  const test = await testPage(...args);
  open.push(test);
  return test;
}

const READER = { ...SECRETS, admin: '' };

describe('the page', () => {
  test('the page is served under a strict policy, compressed, and says nothing of the run', async () => {
    const { url } = await serve();
    const page = await fetch(url(''));
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toContain('unsafe');
    expect(page.headers.get('referrer-policy')).toBe('no-referrer');
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
    expect(page.headers.get('set-cookie')).toBeNull();
    const html = await page.text();
    expect(html).toContain('lantrain');
    expect(html).not.toContain(FACTS.name);
    expect(html).not.toMatch(/https?:\/\//);
    const script = await fetch(url('page.js'), { headers: { 'Accept-Encoding': 'gzip' } });
    expect(script.headers.get('content-encoding')).toBe('gzip');
    expect(
      (await fetch(url('page.js'), { headers: { 'If-None-Match': script.headers.get('etag') ?? '' } })).status,
    ).toBe(304);
  });

  test('the page loads in less than 200 KB', async () => {
    const { url } = await serve();
    const html = await (await fetch(url(''))).text();
    const names = ['', ...[...html.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((match) => match[1])];
    expect(names).toContain('page.js');
    // The script's static imports.
    const script = await (await fetch(url('page.js'))).text();
    names.push(...[...script.matchAll(/from"\.\/([^"]+)"/g)].map((match) => match[1]));
    let bytes = 0;
    for (const name of names) {
      const { readFileSync } = await import('node:fs');
      const zipped = readFileSync(`dist/page/${name === '' ? 'index.html' : name}.gz`);
      expect(gunzipSync(zipped).length).toBeGreaterThan(0);
      bytes += zipped.length;
    }
    expect(bytes).toBeLessThan(200_000);
  });

  test('the page has nothing at other paths, and takes nothing', async () => {
    const { url } = await serve();
    for (const path of ['../package.json', '%2e%2e/package.json', 'page.js.gz', 'watch'])
      expect((await fetch(url(path))).status, path).toBe(404);
    expect((await fetch(url(''), { method: 'POST' })).status).toBe(405);
  });
});

describe('watching', () => {
  test('a watcher with the join token is told all there is, then what is new', async () => {
    const { server, telemetry } = await serve();
    for (let step = 1; step <= 10; step++) telemetry.event(stepEvent(step));
    telemetry.event({ event: 'sample', step: 10, text: 'a whale' });
    const page = await FakePage.enter(server.port, READER);
    expect((await page.next('run')).name).toBe(FACTS.name);
    expect((await page.next('history')).columns.step).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect((await page.next('update')).samples).toEqual([{ step: 10, text: 'a whale' }]);
    telemetry.event(stepEvent(11));
    telemetry.live = { workers: () => liveWorkers(2, 1), times: () => ({ sumMs: 0, updateMs: 0 }) };
    const update = await page.next('update', (u) => u.steps !== undefined);
    expect(update.steps?.step).toEqual([11]);
    expect(update.workers).toHaveLength(2);
  });

  test('a watcher with a wrong token, or none, is told not a byte of the run', async () => {
    const { server, refused, watchers } = await serve({ handshakeMs: 300 });
    const wrong = { ...READER, token: 'x'.repeat(32) };
    await expect(FakePage.enter(server.port, wrong)).rejects.toThrow('LT_CLUSTER_TOKEN');
    await expect(FakePage.enter(server.port, { ...wrong, admin: SECRETS.admin })).rejects.toThrow('LT_CLUSTER_TOKEN');
    await expect(FakePage.enter(server.port, { ...SECRETS, admin: 'y'.repeat(32) })).rejects.toThrow('admin token');
    const silent = await FakePage.open(server.port);
    const rude = await FakePage.open(server.port);
    rude.ws.send('{"type":"control","action":"stop"}');
    expect(await rude.closed).toContain('LT_CLUSTER_MALFORMED');
    expect(await silent.closed).toContain('LT_CLUSTER_TIMEOUT');
    for (const page of [silent, rude]) expect(page.messages).toEqual([]);
    expect(watchers.count).toBe(0);
    expect(refused.map(({ code }) => code)).toEqual([
      'LT_CLUSTER_TOKEN',
      'LT_CLUSTER_TOKEN',
      'LT_CLUSTER_TOKEN',
      'LT_CLUSTER_MALFORMED',
      'LT_CLUSTER_TIMEOUT',
    ]);
  });

  test('watching is refused to pages of other origins, at other paths, and to more than there is room for', async () => {
    const { server } = await serve({ watchers: 1 });
    const status = (path: string, origin?: string) =>
      new Promise<number | undefined>((resolve) => {
        const ws = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, origin === undefined ? {} : { origin });
        ws.on('unexpected-response', (_, response) => resolve(response.statusCode));
        ws.on('open', () => {
          ws.terminate();
          resolve(101);
        });
        ws.on('error', () => {});
      });
    expect(await status('/watch', 'http://evil.example')).toBe(403);
    expect(await status('/watch', `https://127.0.0.1:${server.port}`)).toBe(403);
    expect(await status('/watch', `http://127.0.0.1:${server.port}`)).toBe(101);
    expect(await status('/other')).toBe(404);
    await FakePage.enter(server.port, READER);
    expect(await status('/watch')).toBe(503);
  });

  test('a watcher who talks too much or sends what is no message is cut off', async () => {
    const { server } = await serve({ messagesPerSecond: 5 });
    const loud = await FakePage.enter(server.port, READER);
    for (let i = 0; i < 10; i++) loud.send({ type: 'range', id: i, from: 0, to: 1, points: 2 });
    expect(await loud.closed).toContain('LT_CLUSTER_LIMIT');
    const odd = await FakePage.enter(server.port, READER);
    odd.ws.send('{"type":"range","id":-1}');
    expect(await odd.closed).toContain('LT_CLUSTER_MALFORMED');
    const large = await FakePage.enter(server.port, READER);
    large.ws.send('x'.repeat(5000));
    await large.closed;
  });
});

describe('controls', () => {
  test('controls need the admin token', async () => {
    const { server, controls, acted } = await serve();
    const page = await FakePage.enter(server.port, READER);
    for (const action of ['pause', 'checkpoint', 'stop', 'drop'] as const) page.send({ type: 'control', action });
    for (let i = 0; i < 4; i++) expect((await page.next('answer')).text).toContain('admin link');
    expect(controls.paused).toBe(false);
    expect(acted).toEqual([]);
  });

  test('controls pause, save, resume, drop and stop', async () => {
    const { server, controls, acted } = await serve();
    const admin = await FakePage.enter(server.port, SECRETS);
    await controls.pause();
    const ask = async (action: 'pause' | 'resume' | 'checkpoint' | 'stop' | 'drop', worker?: number) => {
      admin.send({ type: 'control', action, ...(worker === undefined ? {} : { worker }) });
      return (await admin.next('answer')).text;
    };
    await ask('pause');
    await admin.next('update', ({ status }) => status.state === 'paused');
    let isOver = false;
    let next = controls.pause().then(() => {
      isOver = true;
    });
    // A checkpoint is saved at once, and the run stays paused.
    expect(await ask('checkpoint')).toBe('saving a checkpoint');
    expect(await ask('checkpoint')).toBe('the last finished step is in a checkpoint already');
    expect(acted.filter((what) => what === 'save')).toHaveLength(2);
    await new Promise((wake) => setTimeout(wake, 50));
    expect(isOver).toBe(false);
    await ask('resume');
    await next;
    expect(await ask('drop', 1)).toBe('dropped worker-1');
    expect(await ask('drop', 9)).toContain('gone');
    await ask('pause');
    next = controls.pause();
    await ask('stop');
    await next;
    expect(acted).toContain('stop');
  });
});

describe('the history', () => {
  test('the history keeps the extremes of each bucket, in few buckets', () => {
    const history = new StepHistory();
    for (let step = 1; step <= 10_000; step++)
      history.append({ step, seconds: step, loss: step === 5003 ? 99 : 2, tokensPerSecond: 10, lr: 1, gradNorm: 1 });
    const columns = history.columns(0, history.length, 800);
    expect(columns.step.length).toBeLessThanOrEqual(800);
    expect(columns.step.at(-1)).toBe(10_000);
    expect(Math.max(...columns.lossMax.map(Number))).toBe(99);
    expect(Math.min(...columns.lossMin.map(Number))).toBe(2);
    const spike = columns.lossMax.indexOf(99);
    expect(columns.loss[spike]).toBeGreaterThan(2);
    expect(history.columns(0, 800, 800).step).toHaveLength(800);
    expect(history.indexOf(5003)).toBe(5002);
  });

  test('the history leaves out what is not finite, and takes speeds by their time', () => {
    const history = new StepHistory();
    const add = (step: number, loss: number, tokensPerSecond: number) =>
      history.append({ step, seconds: step, loss, tokensPerSecond, lr: 1, gradNorm: Number.NaN });
    add(1, Number.NaN, 100);
    add(2, 3, 50);
    const { loss, tokensPerSecond, gradNorm } = history.columns(0, 2, 1);
    expect(loss).toEqual([3]);
    expect(tokensPerSecond[0]).toBeCloseTo(200 / 3, 3);
    expect(gradNorm).toEqual([null]);
  });

  test('the telemetry says how long is left, how well workers scale, and where their time goes', () => {
    let now = 0;
    const telemetry = new Telemetry(FACTS, [], () => now);
    let step = 0;
    telemetry.live = {
      workers: () =>
        ['a', 'b'].map((name, i) => ({
          ...liveWorkers(2, 0)[i],
          name,
          totals: {
            workMs: step * 900,
            computeMs: step * 800,
            uploadMs: step * 100,
            downloadMs: step * 50,
            waitMs: 9e9,
            tokens: step * 512,
          },
        })),
      times: () => ({ sumMs: step * 10, updateMs: step * 30 }),
    };
    for (let s = 1; s <= 5; s++) {
      step = s;
      now += 1000;
      telemetry.event({ ...stepEvent(s), tokensPerSecond: 1024 });
      telemetry.update();
    }
    expect(telemetry.status).toMatchObject({ state: 'running', step: 5, secondsLeft: 20_000 - 5 });
    // 1,024 tokens/s together, 640 each while they compute.
    expect(telemetry.status.efficiency).toBeCloseTo(0.8, 5);
    const update = telemetry.snapshot().at(-1);
    if (update?.type !== 'update') throw new Error('no update');
    expect(update.split).toEqual({
      step: 1000,
      compute: 800,
      upload: 100,
      download: 50,
      wait: 50,
      sum: 10,
      update: 30,
    });
    expect(update.workers?.map(({ share, tokensPerSecond }) => [share, tokensPerSecond])).toEqual([
      [0.5, 568.889],
      [0.5, 568.889],
    ]);
    expect(telemetry.update(), 'nothing is new').toBeUndefined();
  });
});
