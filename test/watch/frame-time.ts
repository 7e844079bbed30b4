/**
 * Measures script time a frame: the page in Chromium, for a played run with 50 workers and 10,000 steps that goes on
 * with ten steps a second. Chromium's trace gives the time of its main thread in scripts between two frames. CPU time
 * is what counts on a busy machine; wall time is printed beside it.
 *
 *     npm run frame-time
 */
import type { Browser, CDPSession } from 'playwright-core';
import { formatFragment } from '../../src/watch/messages.js';
import { DEFAULT_WATCH_LIMITS } from '../../src/watch/server/watch-limits.js';
import { openBrowser } from '../browser.js';
import { liveWorkers, SECRETS, stepEvent, testPage } from './helpers.js';

const WORKERS = 50;
const STEPS = 10_000;
const SECONDS = 15;

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds: start, duration, and CPU time. */
  readonly ts: number;
  readonly dur?: number;
  readonly tdur?: number;
}

/** Events of Chromium's timeline in which scripts run. */
const LOADING = new Set(['EvaluateScript', 'v8.evaluateModule']);
const SCRIPT = new Set([
  ...LOADING,
  'FunctionCall',
  'FireAnimationFrame',
  'EventDispatch',
  'TimerFire',
  'RunMicrotasks',
  'V8.RunMicrotasks',
  'v8.callFunction',
]);
/** The last thing that the main thread does for a frame. */
const FRAME = 'Layerize';
/** Any task of the main thread: scripts, style, layout and painting. */
const TASK = 'RunTask';

const { server, telemetry } = await testPage({ updateMs: DEFAULT_WATCH_LIMITS.updateMs });
let step = 0;
const next = () => {
  telemetry.event(stepEvent(++step));
  if (step % 50 === 0) telemetry.event({ event: 'eval', step, trainLoss: 2.1, valLoss: 2.3, tokensSeen: 1024 * step });
  if (step % 500 === 0) telemetry.event({ event: 'sample', step, text: `${step} whales `.repeat(40) });
  if (step % 97 === 0)
    telemetry.event({ event: step % 2 ? 'leave' : 'join', step, worker: 'worker-7', reason: 'played' });
};
while (step < STEPS) next();
telemetry.live = {
  workers: () => liveWorkers(WORKERS, step - STEPS + 1),
  times: () => ({ sumMs: step * 12, updateMs: step * 7 }),
};
let browser: Browser | undefined;
const timer = setInterval(next, 100);
try {
  browser = await openBrowser();
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const trace = await traced(await page.context().newCDPSession(page), async () => {
    await page.goto(`http://127.0.0.1:${server.port}/${formatFragment(SECRETS)}`);
    // Frames come at the display's rate only while they are requested.
    await page.evaluate('(function tick() { requestAnimationFrame(tick); })()');
    await page.waitForTimeout(1000 * SECONDS);
    // Simulates a user who moves over the curves, zooms in and out.
    for (let x = 100; x < 700; x += 20) await page.mouse.move(x, 320);
    for (const button of ['zoom-in', 'zoom-in', 'zoom-left', 'zoom-all']) {
      await page.click(`#${button}`);
      await page.waitForTimeout(300);
    }
  });
  if ((await page.locator('#workers tr').count()) !== WORKERS) throw new Error('the page does not show the workers');
  if (!/10,\d\d\d/.test((await page.textContent('#way')) ?? '')) throw new Error('the page does not show the steps');
  say(trace);
} finally {
  clearInterval(timer);
  await browser?.close();
  await server.close('measured');
}

async function traced(session: CDPSession, work: () => Promise<void>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  session.on('Tracing.dataCollected', ({ value }) => events.push(...(value as unknown as TraceEvent[])));
  const done = new Promise<void>((resolve) => session.once('Tracing.tracingComplete', () => resolve()));
  const includedCategories = ['devtools.timeline', 'disabled-by-default-devtools.timeline', 'v8'];
  await session.send('Tracing.start', { traceConfig: { includedCategories } });
  await work();
  await session.send('Tracing.end');
  await done;
  return events;
}

/** Prints the script time between frames of the page's main thread, which is the one with most scripts. */
function say(events: readonly TraceEvent[]): void {
  const threadOf = ({ pid, tid }: TraceEvent) => `${pid}/${tid}`;
  const counts = new Map<string, number>();
  for (const event of events)
    if (event.name === 'FireAnimationFrame') counts.set(threadOf(event), (counts.get(threadOf(event)) ?? 0) + 1);
  const [main] = [...counts].toSorted(([, a], [, b]) => b - a)[0] ?? [];
  const own = events.filter((event) => threadOf(event) === main).toSorted((a, b) => a.ts - b.ts);
  const ends = own.filter(({ name }) => name === FRAME).map(({ ts }) => ts);
  const frames = [...ends, Number.POSITIVE_INFINITY].map((end) => ({ end, script: 0, clock: 0, all: 0, parts: '' }));
  let index = 0;
  let until = 0;
  let loading = 0;
  for (const { name, ph, ts, dur = 0, tdur = 0 } of own) {
    while (ts > frames[index].end) index++;
    const frame = frames[index];
    if (ph !== 'X') continue;
    if (name === TASK) frame.all += tdur / 1000;
    // Nested events count once.
    if (!SCRIPT.has(name) || ts < until) continue;
    until = ts + dur;
    if (LOADING.has(name)) {
      loading += tdur / 1000;
      continue;
    }
    frame.script += tdur / 1000;
    frame.clock += dur / 1000;
    if (tdur > 1000) frame.parts += ` ${name} ${(tdur / 1000).toFixed(1)}`;
  }
  const print = (line: string) => process.stdout.write(`${line}\n`);
  print(`${WORKERS} workers, ${STEPS} steps and what came after: ${frames.length} frames`);
  print(`loading: ${loading.toFixed(1)} ms in which the page's own script is compiled and run for the first time`);
  for (const [key, what] of [
    ['script', 'scripts, CPU time'],
    ['clock', 'scripts, by the clock'],
    ['all', 'the whole main thread, CPU time'],
  ] as const) {
    const sorted = frames.map((frame) => frame[key]).toSorted((a, b) => b - a);
    const at = (share: number) => sorted[Math.floor(share * sorted.length)].toFixed(2);
    const over = sorted.filter((ms) => ms > 16).length;
    print(
      `ms a frame, ${what}: most ${at(0)}, 1 in 100 ${at(0.01)}, 1 in 20 ${at(0.05)}, median ${at(0.5)}; over 16: ${over}`,
    );
  }
  for (const { end, script, parts } of frames.toSorted((a, b) => b.script - a.script).slice(0, 4))
    print(`  at ${((end - frames[0].end) / 1e6).toFixed(2)} s ${script.toFixed(2)} ms:${parts}`);
}
