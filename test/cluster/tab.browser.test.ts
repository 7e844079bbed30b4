import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WIRES } from '../../src/model/wire.js';
import { chromiumPath, NEEDS_CHROMIUM, openBrowser } from '../browser.js';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { type Event, Lantrain, lossesOf, partOf, startCoordinator, startWorker } from './processes.js';

/*
 * Tabs compute on SwiftShader; the coordinator steps on the machine's own driver. In portable arithmetic all give the same
 * bits: runs of tabs, of tabs beside workers in Node, and of one process must end with the same digest.
 */

const folder = workFolder();
afterAll(() => folder.remove());

/** Steps take about a second, so that a tab that is closed during one leaves work behind. */
const OPTIONS = [...SMALL, '--batch', '96', '--micro-batch', '1', '--steps', '6'];
const TAB = /Chrome on Linux \w{3}/g;

describe.skipIf(chromiumPath() === undefined)(`a browser's tabs ${NEEDS_CHROMIUM}`, () => {
  let browser: Browser;
  let context: BrowserContext;
  /** The browser's complaints about the pages: errors, and violations of their content security policy. */
  const complaints: string[] = [];

  beforeAll(async () => {
    browser = await openBrowser();
    // As if the user had compared the fingerprint and continued.
    context = await browser.newContext({ ignoreHTTPSErrors: true });
  });
  afterAll(() => browser?.close());
  afterEach(async () => {
    for (const page of context.pages()) await page.close();
  });

  async function openTab(url: string): Promise<Page> {
    const page = await context.newPage();
    page.on('console', (message) => {
      if (/Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(url.replace(/^ws/, 'http'));
    return page;
  }

  async function joinTab(url: string): Promise<Page> {
    const page = await openTab(url);
    const [opener, button] = [page.locator('#join'), page.locator('.device-join')];
    // A button of the page opens the panel.
    await opener.or(button).filter({ visible: true }).first().click();
    if (await opener.isVisible()) await button.click();
    return page;
  }

  /** Trains with `tabs` tabs and no other workers; `onEvent` may close one. */
  async function train(name: string, tabs: number, onEvent: (event: Event, pages: Page[]) => void = () => {}) {
    const pages: Page[] = [];
    const args = [...OPTIONS, '--out', name, '--min-workers', String(tabs)];
    const { coordinator, url } = await startCoordinator(args, folder.path, (event) => onEvent(event, pages));
    for (let i = 0; i < tabs; i++) pages.push(await joinTab(url));
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(coordinator.digest()).toMatch(/^[0-9a-f]{64}$/);
    return { coordinator, pages };
  }

  let shared: ReturnType<typeof train> | undefined;
  /** The run that others are compared with; the first test trains it. */
  const one = () => {
    shared ??= train('one', 1);
    return shared;
  };

  slowTest('two tabs train a run, one of which is closed in a step, to the digest of one', async () => {
    const alone = await one();
    await expect.poll(() => alone.pages[0].textContent('.device-state'), { timeout: 20_000 }).toBe('The run is done.');
    expect(await alone.pages[0].textContent('.device-figures')).toMatch(/swiftshader.*tokens\/s.*100 %/is);
    expect(alone.coordinator.events.filter((e) => e.event === 'mixed')).toEqual([]);
    const single = new Lantrain(['train', ...OPTIONS, '--out', 'single', '--json'], folder.path);
    expect(await single.ended, single.text).toBe(0);
    expect(alone.coordinator.digest()).toBe(single.digest());
    const losses = alone.coordinator.events.filter((e) => e.event === 'step').map((e) => Number(e.loss));
    expect(losses[5]).toBeLessThan(losses[0]);

    // The largest fraction of a step that each tab showed while both were connected.
    const shares = [0, 0];
    const noteShares = async (pages: Page[]) => {
      const figures = await Promise.all(pages.map((page) => page.textContent('.device-figures')));
      figures.forEach((text, i) => {
        shares[i] = Math.max(shares[i], Number(/(\d+) %/.exec(text ?? '')?.[1] ?? 0));
      });
    };
    const two = await train('two', 2, ({ event, step }, pages) => {
      if (event !== 'step' || Number(step) > 3) return;
      if (Number(step) < 3) void noteShares(pages);
      // Well into step 4; each tab computes half of it.
      else setTimeout(() => void pages[1].close(), 100);
    });
    expect(two.coordinator.events).toContainEqual(expect.objectContaining({ event: 'leave', step: 4 }));
    expect(two.coordinator.digest()).toBe(alone.coordinator.digest());
    expect(lossesOf(two.coordinator.events)).toEqual(lossesOf(alone.coordinator.events));
    for (const share of shares) expect(share, String(shares)).toBeGreaterThan(0);
    expect(complaints).toEqual([]);
  });

  slowTest('tabs come back when the coordinator does', async () => {
    const args = [...OPTIONS, '--out', 'again', '--checkpoint-every', '2'];
    const first = await startCoordinator(args, folder.path, ({ event, step }) => {
      if (event === 'step' && step === 3) first.coordinator.signal('SIGKILL');
    });
    const page = await joinTab(first.url);
    await first.coordinator.ended;
    await expect.poll(() => page.textContent('.device-state'), { timeout: 20_000 }).toMatch(/^Not connected; trying/);
    const second = await startCoordinator(['--resume', 'again'], folder.path);
    expect(second.url).toBe(first.url);
    expect(await second.coordinator.ended, second.coordinator.text).toBe(0);
    expect(second.coordinator.digest()).toBe((await one()).coordinator.digest());
  });

  /** Trains with a tab and a worker in Node on another driver; both must compute. Resolves with the tab's name as well. */
  async function beside(name: string, options: readonly string[]) {
    const args = [...OPTIONS, '--batch', '32', '--steps', '3', '--out', name, '--min-workers', '2', ...options];
    const { coordinator, url } = await startCoordinator(args, folder.path);
    const node = startWorker(url, 'node', folder.path, '--drag', '10');
    await joinTab(url);
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(await node.ended, node.text).toBe(0);
    const [tab] = coordinator.text.match(TAB) ?? [];
    for (const worker of ['node', String(tab)])
      expect(partOf(coordinator, worker), coordinator.text).toBeGreaterThan(0);
    return { coordinator, tab };
  }

  slowTest.each(WIRES)(
    'a tab trains along with a worker of another driver, to the digest of one process, wire %s',
    async (wire) => {
      const { coordinator } = await beside(`beside-${wire}`, ['--wire', wire]);
      expect(coordinator.events.filter((e) => e.event === 'mixed')).toEqual([]);
      const options = [...OPTIONS, '--batch', '32', '--steps', '3', '--wire', wire];
      const single = new Lantrain(['train', ...options, '--out', `alone-${wire}`, '--json'], folder.path);
      expect(await single.ended, single.text).toBe(0);
      expect(coordinator.digest()).toBe(single.digest());
    },
  );

  slowTest('in float32 a tab trains along with a worker of another driver, and the run is marked mixed', async () => {
    const { coordinator, tab } = await beside('mixed', ['--precision', 'f32']);
    expect(coordinator.events.filter((e) => e.event === 'mixed')).toEqual([expect.objectContaining({ worker: tab })]);
    expect(coordinator.text).toContain('the digest is not exact');
  });

  test('a tab leaves when asked, and gets nothing with a wrong token, from another origin, or in an insecure context', async () => {
    const { coordinator, url } = await startCoordinator([...OPTIONS, '--out', 'closed-door'], folder.path);
    const wrong = await openTab(url.replace(/#.{32}/, `#${'w'.repeat(32)}`));
    await expect.poll(() => wrong.textContent('body'), { timeout: 20_000 }).toMatch(/token/);
    expect(await wrong.locator('.device-join').count()).toBe(0);

    const stranger = createServer((_, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html' });
      response.end('<title>stranger</title>');
    });
    await new Promise<void>((ready) => stranger.listen(0, '127.0.0.1', ready));
    const { port } = stranger.address() as AddressInfo;
    const foreign = await context.newPage();
    await foreign.goto(`http://127.0.0.1:${port}/`);
    const tried = await foreign.evaluate(
      async (address) => {
        const Socket = (globalThis as unknown as { WebSocket: new (url: string) => EventTarget }).WebSocket;
        const socket = new Socket(address);
        const opened = await new Promise((tell) => {
          for (const type of ['open', 'close']) socket.addEventListener(type, () => tell(type));
        });
        const page = address.replace(/^ws/, 'http');
        return [opened, await fetch(page).then(String, String)];
      },
      url.replace(/#.*/, ''),
    );
    expect(tried).toEqual(['close', expect.stringContaining('TypeError')]);
    await expect.poll(() => coordinator.text).toContain('a page of another origin asked for it');

    const plain = await context.newPage();
    await plain.addInitScript(() => Object.defineProperty(globalThis, 'isSecureContext', { value: false }));
    await plain.goto(url.replace(/^ws/, 'http'));
    await expect.poll(() => plain.textContent('body')).toMatch(/only over HTTPS.*without --plain.*fingerprint/s);
    expect(await plain.locator('.device-join').count()).toBe(0);

    const leaver = await joinTab(url);
    await expect
      .poll(() => leaver.textContent('.device-state'), { timeout: 20_000 })
      .toBe('Getting ready for the run.');
    await leaver.click('.device-join');
    await expect.poll(() => leaver.textContent('.device-state'), { timeout: 20_000 }).toMatch(/has left the run/);
    expect(await leaver.textContent('.device-join')).toBe('Join again');

    stranger.close();
    coordinator.signal('SIGKILL');
    await coordinator.ended;
  });
});
