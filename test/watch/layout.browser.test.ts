import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hexFingerprint } from '../../src/net/join-url.js';
import { formatLoss } from '../../src/report/format.js';
import { parseMetrics } from '../../src/report/metrics.js';
import { htmlReport } from '../../src/report/report.js';
import { formatFragment, type PageSecrets } from '../../src/watch/messages.js';
import { noiseWords } from '../../src/watch/page/noise.js';
import { chromiumPath, NEEDS_CHROMIUM, openBrowser } from '../browser.js';
import { slowTest } from '../slow.js';
import { brokenWords, clipped, hasColor, headsBeside, type Label, labelsOf, noteLabels, wrapped } from './geometry.js';
import { stepEvent, type TestPage, testPage } from './helpers.js';
import {
  DIGEST,
  EVAL_EVERY,
  LAST_STEP,
  NOISE,
  OTHER_CLASS,
  OWN_CLASS,
  playedWorkers,
  playRun,
  SPIKE,
  trainLossAt,
  valLossAt,
} from './played-run.js';

/** Widths of monitors, tablets, phones, and between them. */
const WIDTHS = [1560, 1280, 1090, 1000, 820, 700, 560, 390, 320];
const SOON = { timeout: 20_000 };

describe.skipIf(chromiumPath() === undefined)(`the page of a played run ${NEEDS_CHROMIUM}`, () => {
  let browser: Browser;
  let context: BrowserContext;
  let run: TestPage;
  const complaints: string[] = [];

  beforeAll(async () => {
    browser = await openBrowser();
    // As after a user has accepted the certificate.
    context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 } });
    run = await testPage(
      {},
      {
        secure: true,
        facts: {
          totalSteps: 6000,
          name: 'moby-dick-at-night-with-three-laptops-and-a-phone-2026-11-27',
          settings: [['Data SHA-256', DIGEST]],
        },
      },
    );
    run.telemetry.address = 'https://192.168.178.23:7070/';
    playRun(run.telemetry);
  });
  afterAll(async () => {
    await browser?.close();
    await run?.server.close('the tests are over');
  });

  async function openPage(test: TestPage = run, secrets: PageSecrets = test.secrets, width = 1280): Promise<Page> {
    const page = await context.newPage();
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.setViewportSize({ width, height: 800 });
    await noteLabels(page);
    await page.goto(test.url(formatFragment(secrets)));
    await page.locator('#main').waitFor();
    return page;
  }

  /** Resolves when all views have been drawn, at least one a frame. */
  async function drawn(page: Page): Promise<void> {
    await page.locator('#norm canvas').waitFor();
    await page.evaluate(`new Promise((done) => {
      let frames = 24;
      const next = () => (--frames > 0 ? requestAnimationFrame(next) : done());
      next();
    })`);
  }

  test('the page is whole at every width: no button is cut, no figure wraps, heads stand above their columns', async () => {
    const page = await openPage();
    await page.locator('.key').waitFor();
    await page.click('#table summary');
    await expect.poll(() => page.locator('#rows tr').count(), SOON).toBeGreaterThan(10);
    expect(await page.getByRole('button', { name: 'Drop pequod' }).count()).toBe(1);
    expect(await page.locator('#noise').innerText()).toBe(noiseWords(NOISE));
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await drawn(page);
      const found = { clipped: await clipped(page), wrapped: await wrapped(page), heads: await headsBeside(page) };
      expect(found, `at ${width}`).toEqual({ clipped: [], wrapped: [], heads: [] });
    }
    await page.close();
  });

  slowTest('the page shows link, QR code and the whole fingerprint to who joins over TLS, at every width', async () => {
    const page = await openPage();
    await page.click('#join');
    await page.locator('#qr svg').waitFor();
    const shown = (await page.textContent('.device-note')) ?? '';
    expect(shown).toContain(hexFingerprint(run.secrets.fingerprint));
    // No argument contains the token.
    const command = (await page.textContent('#join-command')) ?? '';
    expect(command).toMatch(new RegExp(`^worker wss://[^/]+:\\d+/#\\.${run.secrets.fingerprint}$`));
    expect(await page.textContent('#join-dialog')).not.toContain(run.secrets.token);
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      expect(await clipped(page), `at ${width}`).toEqual([]);
      for (const part of ['#qr svg', '#copy', '.device-join']) {
        const box = await page.locator(part).boundingBox();
        expect(box, part).not.toBeNull();
        expect((box?.x ?? 0) + (box?.width ?? 0), `${part} at ${width}`).toBeLessThanOrEqual(width);
      }
    }
    await page.close();
  });

  test('the page over plain HTTP on the machine itself shows the run, and a link without a fingerprint', async () => {
    const plain = await testPage();
    plain.telemetry.event(stepEvent(1));
    const page = await openPage(plain);
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Training');
    expect(await page.isVisible('#noise')).toBe(false);
    await page.click('#join');
    await page.locator('.device-join').waitFor();
    expect(await page.textContent('.device-note')).not.toMatch(/certificate|fingerprint/);
    expect(await page.textContent('#join-command')).toMatch(/^worker ws:\/\/127\.0\.0\.1:\d+\/$/);
    await page.close();
    await plain.server.close('the test is over');
  });

  /** The number, count or time that a label says. */
  function meant(text: string): number {
    const count = /^(-?[\d,.]+)([kMG]?)$/.exec(text);
    if (count) return Number(count[1].replaceAll(',', '')) * { '': 1, k: 1e3, M: 1e6, G: 1e9 }[count[2] as 'k'];
    const units = { d: 86_400, h: 3600, m: 60, s: 1 };
    return [...text.matchAll(/([\d.]+)([dhms])/g)].reduce((sum, [, n, u]) => sum + Number(n) * units[u as 's'], 0);
  }

  /** Labels of one axis whose position does not match their value, by the line through the outer two. */
  function untrue(labels: readonly Label[], along: 'x' | 'y'): string[] {
    const sorted = labels.toSorted((a, b) => a[along] - b[along]);
    const [first, last] = [sorted[0], sorted[sorted.length - 1]];
    return sorted.flatMap((label) => {
      const part = (label[along] - first[along]) / (last[along] - first[along]);
      const there = meant(first.text) + part * (meant(last.text) - meant(first.text));
      const apart = Math.abs(meant(last.text) - meant(first.text)) / sorted.length;
      return Math.abs(there - meant(label.text)) > 0.05 * apart ? [`${label.text} stands at ${there}`] : [];
    });
  }

  async function checkAxes(page: Page, what: string): Promise<void> {
    await drawn(page);
    for (const chart of ['loss', 'speed', 'norm']) {
      const labels = await labelsOf(page, chart);
      const below = Math.max(...labels.map(({ y }) => y));
      const axes = { x: labels.filter(({ y }) => y === below), y: labels.filter(({ y }) => y !== below) };
      const left = Math.min(...axes.y.map(({ x }) => x));
      const sides = [axes.y.filter(({ x }) => x === left), axes.y.filter(({ x }) => x !== left)];
      const cut = labels.filter((l) => l.left < 0 || l.right > l.canvasWidth || l.y > l.canvasHeight);
      expect(
        cut.map(({ text }) => text),
        `${chart}, ${what}`,
      ).toEqual([]);
      expect(axes.x.length, `${chart}, ${what}`).toBeGreaterThanOrEqual(2);
      expect(untrue(axes.x, 'x'), `${chart} below, ${what}`).toEqual([]);
      for (const side of sides) if (side.length > 2) expect(untrue(side, 'y'), `${chart} beside, ${what}`).toEqual([]);
      const apart = axes.x.toSorted((a, b) => a.x - b.x);
      for (let i = 1; i < apart.length; i++)
        expect(apart[i].left, `${apart[i].text} beside ${apart[i - 1].text}, ${what}`).toBeGreaterThan(
          apart[i - 1].right,
        );
    }
  }

  slowTest('the page labels each tick with where it stands, whole and beside the others, at every zoom', async () => {
    const page = await openPage();
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      for (const by of ['step', 'tokens', 'time']) {
        await page.locator(`input[value=${by}]`).dispatchEvent('click');
        await page.click('#zoom-all:enabled', { timeout: 500 }).catch(() => {});
        for (let zoom = 0; zoom < 10; zoom += 2) {
          await checkAxes(page, `${by}, ${zoom} times zoomed in, at ${width}`);
          for (let i = 0; i < 2; i++) await page.click('#zoom-in');
        }
      }
    }
    await page.close();
  });

  slowTest('the page draws lines to the edges of a zoom, though their next points lie outside', async () => {
    const page = await openPage();
    for (let zoom = 0; zoom < 6; zoom++) await page.click('#zoom-in');
    for (let move = 0; move < 3; move++) await page.click('#zoom-left');
    await drawn(page);
    // About 78 steps, with one or two evaluations.
    for (const by of ['step', 'tokens', 'time']) {
      await page.locator(`input[value=${by}]`).dispatchEvent('click');
      await drawn(page);
      for (const [color, name] of [
        ['--train', 'training'],
        ['--val', 'validation'],
        ['--train-faint', 'each step'],
      ])
        for (const part of [{ right: 0.012 }, { left: 0.988 }])
          expect(await hasColor(page, 'loss', color, part), `${name} by ${by}, ${JSON.stringify(part)}`).toBe(true);
    }
    await page.close();
  });

  slowTest('the page shows a spike as high as it was, among thousands of steps', async () => {
    const page = await openPage();
    await drawn(page);
    const at = SPIKE.step / LAST_STEP;
    const near = { left: at - 0.01, right: at + 0.01 };
    // The axis begins at 0 or below it and ends little above the spike.
    const top = { ...near, bottom: 0.2 };
    expect(await hasColor(page, 'loss', '--train-faint', top)).toBe(true);
    expect(await hasColor(page, 'norm', '--norm-faint', top)).toBe(true);
    expect(await hasColor(page, 'loss', '--train-faint', { left: 0.1, right: at - 0.02, bottom: 0.2 })).toBe(false);
    await page.click('#table summary');
    await expect.poll(() => page.textContent('#rows'), SOON).toContain(formatLoss(SPIKE.loss));
    await page.close();
  });

  slowTest('the page names in the legend the evaluation that the cursor marks', async () => {
    const page = await openPage();
    for (let zoom = 0; zoom < 5; zoom++) await page.click('#zoom-in');
    await drawn(page);
    const over = await page.locator('#loss .u-over').boundingBox();
    if (over === null) throw new Error('no plot');
    let from = 0;
    const to = LAST_STEP;
    for (let zoom = 0; zoom < 5; zoom++) from = Math.floor(to - (to - from) / 2);
    const seen = new Set<string>();
    for (let part = 0.02; part < 0.97; part += 0.098) {
      await page.mouse.move(over.x + part * over.width, over.y + 60);
      await drawn(page);
      const points = await page.locator('#loss .u-cursor-pt').evaluateAll((all) =>
        (all as unknown as { getBoundingClientRect(): { x: number; width: number } }[]).map((point) => {
          const box = point.getBoundingClientRect();
          return box.x + box.width / 2;
        }),
      );
      // The last two points are of training and validation.
      const step = from + (((points.at(-1) ?? 0) - over.x) / over.width) * (to - from);
      const marked = Math.round((step - 1) / EVAL_EVERY) * EVAL_EVERY + 1;
      const texts = await page.locator('#loss .legend span b').allTextContents();
      expect(texts.slice(1), `at ${part}`).toEqual([trainLossAt(marked), valLossAt(marked)].map(formatLoss));
      const where = (await page.textContent('#loss .where')) ?? '';
      expect(where).toMatch(/^step [\d,]+/);
      const isElsewhere = !where.startsWith(`step ${marked.toLocaleString('en')}\n`) && where !== `step ${marked}`;
      if (isElsewhere && where.includes('\n')) expect(where).toContain(`step ${marked.toLocaleString('en')}`);
      seen.add(String(texts[2]));
    }
    expect(seen.size).toBeGreaterThanOrEqual(3);
    await page.close();
  });

  slowTest('the page says the same numbers as the report', async () => {
    const steps = Array.from({ length: 300 }, (_, i) => stepEvent(i + 1));
    const events = parseMetrics(
      [
        ...steps,
        { event: 'eval', step: 251, trainLoss: 2.345, valLoss: 2.567, tokensSeen: 1024 * 251 },
        { event: 'workers', step: 300, workers: [{ ...played(0), tokens: 1000, computeMs: 500 }] },
        { event: 'workers', step: 300, workers: [{ ...played(0), tokens: 234_000, computeMs: 117_000 }] },
        { event: 'stopped', step: 300 },
      ]
        .map((event) => JSON.stringify(event))
        .join('\n'),
    );
    const past = await testPage({}, { past: events, facts: { kind: 'past' } });
    const page = await openPage(past, { ...past.secrets, admin: '' });
    await drawn(page);
    const report = await context.newPage();
    await report.setContent(
      htmlReport(events, { name: 'a', settings: [], totalSteps: 20_000, tokensPerStep: 1024, stepsPerEpoch: 1000 }),
    );
    const figures = (of: Page): Promise<Record<string, string>> =>
      of.evaluate(`Object.fromEntries([...document.querySelectorAll('.figures dl > div, dl.figures > div')].map((e) =>
        [e.querySelector('dt').textContent, e.querySelector('dd').textContent]))`);
    const [shown, printed] = [await figures(page), await figures(report)];
    for (const name of ['Training loss', 'Validation loss', 'Tokens/s', 'Tokens seen'])
      expect(shown[name], name).toBe(printed[name]);
    expect(shown['Training loss']).toBe('2.345');
    expect(await page.textContent('#state')).toBe('Stopped');
    expect(await report.textContent('body')).toContain('Stopped');
    const row = await page.locator('#workers tr').allTextContents();
    const cells = await report.locator('section:has(h2:text("Workers")) tbody tr').first().allTextContents();
    for (const text of ['pequod', '235k', '2k']) {
      expect(row[0]).toContain(text);
      expect(cells[0]).toContain(text);
    }
    expect(row).toHaveLength(1);
    await page.close();
    await report.close();
    await past.server.close('the test is over');
  });

  const played = (i: number) => {
    const { name, adapter, bitClass } = playedWorkers(1)[i];
    return { name, adapter, bitClass };
  };

  slowTest(
    'the page tells bit classes apart, and keeps the run marked as mixed when the other one has left',
    async () => {
      const mixed = await testPage();
      playRun(mixed.telemetry);
      const page = await openPage(mixed);
      await expect.poll(() => page.isVisible('#mixed'), SOON).toBe(true);
      const names = await page.locator('#workers td.bits').allTextContents();
      expect(names).toHaveLength(4);
      expect(new Set([names[0], names[2], names[3]]).size).toBe(1);
      expect(names[1]).not.toBe(names[0]);
      // They differ in letter and hash.
      const [[a, one], [b, other]] = [names[0].split(' '), names[1].split(' ')];
      expect([a, b]).toEqual(['A', 'B']);
      expect(OWN_CLASS.split('-')[0].startsWith(one.split('-')[0])).toBe(true);
      expect(one).not.toBe(other);
      mixed.telemetry.live = {
        bitClass: OWN_CLASS,
        workers: () => playedWorkers(9).filter(({ exact }) => exact),
        departed: () => [{ ...played(1), tokens: 5000, computeMs: 1000 }],
        times: () => ({ sumMs: 0, updateMs: 0 }),
      };
      await expect.poll(() => page.locator('#workers tr[data-state=left]').count(), SOON).toBe(1);
      expect(await page.textContent('#f-workers')).toBe('3');
      expect(await page.isVisible('#mixed')).toBe(true);
      expect(await page.textContent('#workers-note')).toContain('not exact');
      expect(await page.textContent('#workers tr[data-state=left]')).toContain(names[1]);
      expect(OTHER_CLASS).not.toBe(OWN_CLASS);
      await page.close();
      await mixed.server.close('the test is over');
    },
  );

  slowTest('the page shows a lost run as lost, with the time since, and nothing of it as if it went on', async () => {
    const lost = await testPage();
    playRun(lost.telemetry);
    const page = await openPage(lost);
    await expect.poll(() => page.getAttribute('#state', 'data-state'), SOON).toBe('running');
    // The server closes without saying why.
    void lost.server.close('');
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Lost');
    // It keeps trying, and the page shows that it is lost.
    for (let i = 0; i < 25; i++) {
      expect(await page.getAttribute('#state', 'data-state')).toBe('lost');
      expect(await page.getAttribute('body', 'data-line')).toBe('lost');
      await page.waitForTimeout(100);
    }
    expect(await page.textContent('#way')).toMatch(/last heard of \d+s ago/);
    expect(await page.textContent('#way')).not.toContain('left');
    for (const figure of ['#f-speed', '#f-left', '#f-efficiency']) expect(await page.textContent(figure)).toBe('–');
    expect(await page.isDisabled('#pause')).toBe(true);
    expect(await page.isDisabled('#join')).toBe(true);
    const background = await page.locator('#state').evaluate('(e) => getComputedStyle(e).color');
    const good = await page.evaluate(`(() => {
      const e = document.body.appendChild(document.createElement('i'));
      e.style.color = 'var(--good)';
      return getComputedStyle(e).color;
    })()`);
    expect(background).not.toBe(good);
    await page.close();
  });

  slowTest(
    'the page takes a run for lost that two beats in a row are missing of, though the line is open',
    async () => {
      const silent = await testPage({ beatMs: 1e9, updateMs: 1e9 });
      silent.telemetry.event(stepEvent(1));
      const page = await context.newPage();
      await page.clock.install();
      await page.goto(silent.url(formatFragment(silent.secrets)));
      await expect.poll(() => page.textContent('#state'), SOON).toBe('Training');
      await page.clock.fastForward(12_500);
      const soon = { timeout: 5_000 };
      await expect.poll(() => page.textContent('#notice'), soon).toContain('nothing was heard of it');
      await page.close();
      await silent.server.close('the test is over');
    },
  );

  slowTest('the page says how a run ended, and why it failed, and leaves that when the line ends', async () => {
    for (const [state, reason, shown] of [
      ['failed', 'step 7: the loss is not finite', 'Failed'],
      ['stopped', undefined, 'Stopped'],
    ] as const) {
      const ended = await testPage();
      ended.telemetry.event(stepEvent(1));
      const page = await openPage(ended);
      await expect.poll(() => page.textContent('#state'), SOON).toBe('Training');
      ended.telemetry.end(state, reason);
      await ended.server.close('it is over');
      await expect.poll(() => page.getAttribute('body', 'data-line'), SOON).toBe('over');
      expect(await page.textContent('#state')).toBe(shown);
      if (reason !== undefined) expect(await page.textContent('#reason')).toContain(reason);
      expect(await page.isVisible('#notice')).toBe(false);
      await expect.poll(() => page.isVisible('#join'), SOON).toBe(false);
      await page.close();
    }
  });

  slowTest(
    'the page shows the first evaluation, which makes no line yet, and a checkpoint once that was written twice',
    async () => {
      const first = await testPage({}, { secure: true });
      first.telemetry.event(stepEvent(1));
      first.telemetry.event({ event: 'eval', step: 1, trainLoss: 5.5, valLoss: 5.1, tokensSeen: 1024 });
      for (const digest of ['c'.repeat(64), DIGEST])
        first.telemetry.event({ event: 'checkpoint', step: 1, digest, path: 'checkpoints/1' });
      const page = await openPage(first);
      await drawn(page);
      for (const color of ['--train', '--val']) expect(await hasColor(page, 'loss', color, {}), color).toBe(true);
      await expect.poll(() => page.locator('#checkpoints li').allTextContents(), SOON).toEqual([`step 1${DIGEST}`]);
      await page.close();
      await first.server.close('the test is over');
    },
  );

  slowTest('the page names no button and no link that is not there', async () => {
    const empty = await testPage();
    const page = await openPage(empty);
    await expect.poll(() => page.isVisible('#no-workers'), SOON).toBe(true);
    await expect.poll(() => page.isVisible('#join'), SOON).toBe(true);
    expect(await page.innerText('#no-workers')).toMatch(/Join/);
    expect(await page.innerText('main')).not.toMatch(/above|below/);
    empty.telemetry.event({ event: 'done', step: 1, digest: DIGEST, seconds: 1 });
    await expect.poll(() => page.textContent('#state'), SOON).toBe('Done');
    await expect.poll(() => page.isVisible('#join'), SOON).toBe(false);
    expect(await page.innerText('#no-workers')).not.toMatch(/join/i);
    await page.close();
    await empty.server.close('the test is over');
  });

  test('a report fits a phone: what is long breaks', async () => {
    const long = 'x'.repeat(90);
    const events = [
      stepEvent(1),
      stepEvent(2),
      { event: 'checkpoint', step: 2, digest: DIGEST, path: 'p' },
      { event: 'sample', step: 2, text: long },
      { event: 'join', step: 1, worker: long, reason: `bit class ${OWN_CLASS}` },
      {
        event: 'leave',
        step: 1,
        worker: 'ishmael',
        reason: 'it left, after it had said for a long while why it would',
      },
      { event: 'mixed', step: 1, worker: 'b', reason: `bit class ${OTHER_CLASS}, the owner's is ${OWN_CLASS}: x` },
      { event: 'workers', step: 2, workers: [0, 1, 2].map((i) => ({ ...played(i), tokens: 1e9, computeMs: 7 })) },
    ];
    const html = htmlReport(parseMetrics(events.map((event) => JSON.stringify(event)).join('\n')), {
      name: `a-run-${long}`,
      settings: [['Data SHA-256', DIGEST]],
      totalSteps: 9,
      tokensPerStep: 1024,
      stepsPerEpoch: 9,
    });
    const page = await context.newPage();
    await page.setContent(html);
    for (const width of [1280, 820, 390, 320]) {
      await page.setViewportSize({ width, height: 800 });
      const wide =
        await page.evaluate(`[...document.querySelectorAll('html, body, section, table, dl, h1, blockquote, figure')].flatMap((e) =>
        e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 || e.getBoundingClientRect().right > innerWidth + 0.5
          ? [e.tagName + ' ' + e.scrollWidth + ' of ' + e.clientWidth] : [])`);
      expect(wide, `at ${width}`).toEqual([]);
      if (width >= 390) expect(await brokenWords(page), `at ${width}`).toEqual([]);
    }
    await page.close();
  });

  test('the page has complained of nothing', () => {
    expect(complaints).toEqual([]);
  });
});
