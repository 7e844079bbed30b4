import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { endOf } from '../../src/report/course.js';
import { readMetrics } from '../../src/report/metrics.js';
import { workersOf as workersOfRun } from '../../src/report/workers.js';
import { chromiumPath, NEEDS_CHROMIUM, openBrowser } from '../browser.js';
import { SMALL, workFolder } from '../cli/run.js';
import { adminLinkOf, joinUrlOf, type Lantrain, startCoordinator, startWorker } from '../cluster/processes.js';
import { slowTest } from '../slow.js';

/** The run has more steps than the test waits for: the test stops it by the page. */
const REPORTS = ['--eval-every', '20', '--checkpoint-every', '20'];
const OPTIONS = [...SMALL, ...REPORTS, '--steps', '100000', '--out', 'watched'];
/** As in `SMALL`. */
const TOKENS_PER_STEP = 64;
/** The part of a canvas that this test needs. Its type is the browser's. */
interface Canvas {
  toDataURL(): string;
}

const SOON = { timeout: 120_000 };

describe.skipIf(chromiumPath() === undefined)(`the page of a run ${NEEDS_CHROMIUM}`, () => {
  const folder = workFolder();
  let browser: Browser;
  let context: BrowserContext;
  let coordinator: Lantrain;
  const workers = new Map<string, Lantrain>();
  const complaints: string[] = [];

  beforeAll(async () => {
    browser = await openBrowser();
    // Over TLS, as on a LAN, after a user has accepted the certificate.
    context = await browser.newContext({ ignoreHTTPSErrors: true });
    const started = await startCoordinator(OPTIONS, folder.path);
    coordinator = started.coordinator;
    for (const name of ['ahab', 'starbuck']) workers.set(name, startWorker(started.url, name, folder.path));
  });
  afterAll(async () => {
    await browser?.close();
    for (const process of [coordinator, ...workers.values()]) {
      process?.signal('SIGKILL');
      await process?.ended;
    }
    folder.remove();
  });

  /** Opens the page. `received`: the messages of its WebSocket. */
  async function openPage(link: string): Promise<{ readonly page: Page; readonly received: string[] }> {
    const page = await context.newPage();
    const received: string[] = [];
    page.on('websocket', (ws) => ws.on('framereceived', ({ payload }) => received.push(String(payload))));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    await page.goto(link);
    return { page, received };
  }

  const openAdmin = async () => openPage(await adminLinkOf(coordinator, folder.path));
  const openWatch = async () => openPage(await coordinator.printed(/watch {4}(https\S+)/));

  const stepOf = async (page: Page) =>
    Number(/^step ([\d,]+)/.exec((await page.textContent('#way')) ?? '')?.[1].replaceAll(',', '') ?? 0);
  const curveOf = (page: Page, chart: string) =>
    page.locator(`#${chart} canvas`).evaluate((canvas) => (canvas as unknown as Canvas).toDataURL());
  const workersOf = (page: Page) => page.locator('#workers tr:not([data-state=left]) th b').allTextContents();
  const leftOf = (page: Page) => page.locator('#workers tr[data-state=left] th b').allTextContents();

  test('the page moves its curves, and lists workers as they come and go', async () => {
    const { page } = await openWatch();
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Training');
    await expect.poll(async () => (await workersOf(page)).toSorted(), SOON).toEqual(['ahab', 'starbuck']);
    await expect.poll(() => stepOf(page), SOON).toBeGreaterThan(20);
    expect(await page.textContent('#f-loss')).toMatch(/^\d\.\d{3}$/);
    for (const chart of ['loss', 'speed', 'norm']) {
      const before = await curveOf(page, chart);
      await expect.poll(() => curveOf(page, chart), SOON).not.toBe(before);
    }
    await page.click('#table summary');
    await expect.poll(() => page.locator('#rows tr').count(), SOON).toBeGreaterThan(10);

    workers.get('ahab')?.signal('SIGKILL');
    await expect.poll(() => workersOf(page), SOON).toEqual(['starbuck']);
    await expect.poll(() => leftOf(page), SOON).toEqual(['ahab']);
    await expect.poll(() => page.textContent('#log'), SOON).toMatch(/left.*ahab/);
    const left = await stepOf(page);
    await expect.poll(() => stepOf(page), SOON).toBeGreaterThan(left);
    const url = await joinUrlOf(coordinator);
    workers.set('queequeg', startWorker(url, 'queequeg', folder.path));
    await expect.poll(() => workersOf(page), SOON).toEqual(['starbuck', 'queequeg']);
    await page.close();
  });

  slowTest('the page gives the admin link controls, and the other one none', async () => {
    const [{ page: reader }, { page: admin }] = [await openWatch(), await openAdmin()];
    await expect.poll(() => admin.isVisible('#pause'), SOON).toBe(true);
    await admin.click('#pause');
    await expect.poll(() => admin.textContent('#state'), SOON).toBe('Paused');
    await expect.poll(() => admin.textContent('#pause'), SOON).toBe('Resume');
    await expect.poll(() => reader.textContent('#state'), SOON).toBe('Paused');
    expect(await reader.isVisible('#controls')).toBe(false);
    expect(await reader.getByRole('button', { name: /pause|resume|stop|drop/i }).count()).toBe(0);
    await expect.poll(() => admin.getByRole('button', { name: 'Drop starbuck' }).count(), SOON).toBe(1);

    // Messages from before the pause may still arrive.
    await new Promise((wait) => setTimeout(wait, 1500));
    const [stands, curve] = [await stepOf(admin), await curveOf(admin, 'loss')];
    await new Promise((wait) => setTimeout(wait, 1500));
    expect(await stepOf(admin)).toBe(stands);
    expect(await curveOf(admin, 'loss')).toBe(curve);
    await admin.click('#pause');
    await expect.poll(() => stepOf(reader), SOON).toBeGreaterThan(stands + 5);
    await expect.poll(() => reader.textContent('#state'), SOON).toBe('Training');
  });

  slowTest('the page shows and receives nothing with a wrong token', async () => {
    const link = await adminLinkOf(coordinator, folder.path);
    const [, token] = /#(.{32})/.exec(link) ?? [];
    for (const wrong of [link.replace(String(token), 'w'.repeat(32)), `${link.slice(0, -4)}wwww`]) {
      expect(wrong).not.toBe(link);
      const { page, received } = await openPage(wrong);
      await expect.poll(() => page.textContent('#state'), SOON).toBe('Refused');
      expect(received.map((text) => JSON.parse(text).type)).toEqual(['challenge']);
      expect(Object.keys(JSON.parse(received[0])).toSorted()).toEqual(['nonce', 'type', 'version']);
      expect(await page.isVisible('main')).toBe(false);
      expect(await page.textContent('body')).not.toMatch(/watched|starbuck|queequeg/);
      expect(await page.textContent('#notice')).toMatch(/token/);
      await page.close();
    }
    const { page, received } = await openPage(link.replace(/#.*/, ''));
    await expect.poll(() => page.textContent('#notice')).toMatch(/no token/);
    expect(received).toEqual([]);
  });

  /** The admin's page, which stays open. */
  let page: Page;

  slowTest('the page stops the run for the admin, who sees the digest', async () => {
    page = (await openAdmin()).page;
    page.on('dialog', (dialog) => void dialog.accept());
    await page.click('#stop');
    expect(await coordinator.ended, coordinator.text).not.toBeNull();
    // As in the report, including workers that have left.
    for (const name of ['ahab', 'starbuck', 'queequeg'])
      expect(coordinator.text).toMatch(new RegExp(`worker {3}${name}: .* tokens \\(\\d+ %\\)`));
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Stopped');
    await expect.poll(() => page.textContent('#checkpoints'), SOON).toMatch(/[0-9a-f]{64}/);
    expect(complaints.filter((text) => !/ERR_CONNECTION_REFUSED/.test(text))).toEqual([]);
  });

  slowTest('the page goes on with a run where it stopped, as one curve with all that workers computed', async () => {
    const stands = await stepOf(page);
    await page.click('#table summary');
    await expect.poll(() => page.locator('#rows tr').count(), SOON).toBeGreaterThan(0);
    // Otherwise they would reconnect, as the page does.
    for (const worker of workers.values()) {
      worker.signal('SIGKILL');
      await worker.ended;
    }
    const started = await startCoordinator(['--resume', 'watched'], folder.path);
    coordinator = started.coordinator;
    await expect.poll(() => page.textContent('#state'), SOON).toMatch(/Starting|Waiting for workers/);
    expect(await page.textContent('#f-speed')).toBe('–');
    expect(await stepOf(page)).toBe(stands);
    workers.set('again', startWorker(started.url, 'starbuck', folder.path));
    await expect.poll(() => stepOf(page), SOON).toBeGreaterThan(stands + 45);
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Training');
    const steps = (await page.locator('#rows th').allTextContents()).map((text) => Number(text.replaceAll(',', '')));
    expect(new Set(steps).size).toBe(steps.length);
    expect(steps).toEqual(steps.toSorted((a, b) => b - a));
    expect((await leftOf(page)).toSorted()).toEqual(['ahab', 'queequeg']);

    coordinator.signal('SIGKILL');
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Lost');
    const path = join(folder.path, 'watched');
    const events = readMetrics(join(path, 'metrics.jsonl'));
    const saved = Math.max(...events.flatMap((event) => (event.event === 'checkpoint' ? [event.step] : [])));
    expect(saved).toBeGreaterThan(stands);
    expect(endOf(events)).toEqual({ state: 'unfinished' });
    // Each start recorded its own work, the second up to its last checkpoint, and some work was done twice.
    const totals = workersOfRun(events);
    expect(totals.map(({ name }) => name).toSorted()).toEqual(['ahab', 'queequeg', 'starbuck']);
    const tokens = totals.reduce((sum, worker) => sum + worker.tokens, 0) / TOKENS_PER_STEP;
    expect(tokens).toBeGreaterThan(0.85 * saved);
    expect(tokens).toBeLessThan(1.25 * saved);
  });
});
