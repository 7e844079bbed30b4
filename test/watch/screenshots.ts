/**
 * Takes pictures of the page for the README: trains a small run with a coordinator and three workers, one of which is
 * killed and comes back, and makes docs/page-*.png in Chromium.
 *
 *     npm run screenshots
 */
import { resolve } from 'node:path';
import type { Browser } from 'playwright-core';
import { openBrowser } from '../browser.js';
import { workFolder } from '../cli/run.js';
import { adminLinkOf, type Lantrain, startCoordinator, startWorker } from '../cluster/processes.js';

const MODEL = ['--layers', '2', '--heads', '4', '--width', '64', '--context', '32', '--batch', '16'];
const REPORTS = ['--eval-every', '20', '--sample-every', '60', '--prompt', 'The whale ', '--sample-tokens', '400'];
const STEPS = ['--steps', '700', '--warmup', '30', '--checkpoint-every', '100'];
const KILLED_AT = 120;
const TAKEN_AT = 400;

const SHOTS = [
  { name: 'desktop', width: 1280, height: 788, scale: 1 },
  { name: 'phone', width: 390, height: 702, scale: 2 },
] as const;

const folder = workFolder();
const started: Lantrain[] = [];
let browser: Browser | undefined;
try {
  browser = await openBrowser();
  await takeAll(browser, await wellUnderWay());
} finally {
  await browser?.close();
  for (const process of started) {
    process.signal('SIGKILL');
    await process.ended;
  }
  folder.remove();
}

/** Trains up to TAKEN_AT; resolves with the admin's link. */
async function wellUnderWay(): Promise<string> {
  let reached: () => void;
  const taken = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const args = [
    '--preset',
    'tiny',
    '--data',
    'moby-dick',
    ...MODEL,
    ...REPORTS,
    ...STEPS,
    '--plain',
    '--out',
    'whales',
  ];
  const { coordinator, url } = await startCoordinator(args, folder.path, ({ event, step }) => {
    if (event !== 'step') return;
    if (step === KILLED_AT) started.at(-1)?.signal('SIGKILL');
    if (step === KILLED_AT + 30) join('pequod');
    if (step === TAKEN_AT) reached();
  });
  started.push(coordinator);
  const join = (name: string) => started.push(startWorker(url, name, folder.path, '--plain'));
  for (const name of ['rachel', 'samuel-enderby', 'pequod']) join(name);
  const ended = coordinator.ended.then(() => {
    throw new Error(`the run ended too soon:\n${coordinator.text}`);
  });
  await Promise.race([taken, ended]);
  // An end after the pictures is not a failure.
  ended.catch(() => {});
  return adminLinkOf(coordinator, folder.path);
}

async function takeAll(browser: Browser, link: string): Promise<void> {
  for (const { name, width, height, scale } of SHOTS)
    for (const colorScheme of ['light', 'dark'] as const) {
      const context = await browser.newContext({ viewport: { width, height }, deviceScaleFactor: scale, colorScheme });
      const page = await context.newPage();
      await page.goto(link);
      await page.locator('#workers tr').first().waitFor();
      await page.locator('#split .stack').first().waitFor();
      // The run is not paused, since then no worker would be shown at work.
      await page.waitForTimeout(1500);
      const path = resolve('docs', `page-${name}-${colorScheme}.png`);
      await page.screenshot({ path });
      process.stdout.write(`${path}\n`);
      await context.close();
    }
}
