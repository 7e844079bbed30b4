import { formatCount, formatDuration, formatLoss, printable } from './format.js';
import type { MetricsEvent, StepEvent } from './metrics.js';
import { lossPlot } from './plot.js';

export interface ReportOptions {
  readonly name: string;
  /** Names and values of the configuration. */
  readonly settings: readonly (readonly [string, string])[];
  readonly totalSteps: number;
  readonly tokensPerStep: number;
  readonly stepsPerEpoch: number;
}

/** Samples and events that are shown, the newest ones. */
const MOST_SAMPLES = 12;
const MOST_EVENTS = 200;

const STYLE = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --faint: #59636e; --line: #e4e8ec; --accent: #1668c7 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #262c36; --accent: #58a6ff }
  .light { display: none }
}
@media (prefers-color-scheme: light) { .dark { display: none } }
body { max-width: 820px; margin: 0 auto; padding: 24px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 -apple-system, "Segoe UI", Roboto, Helvetica, Arial, "Liberation Sans", sans-serif }
h1 { margin: 0; font-size: 26px } h2 { margin: 34px 0 10px; font-size: 17px }
.faint, th, dt, figcaption { color: var(--faint); font-weight: 400 }
svg { width: 100%; height: auto }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 14px; margin: 20px 0 }
.figures dd { margin: 0; font-size: 22px; font-weight: 600 }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 4px 12px 4px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top }
tbody th { white-space: nowrap } code { font-size: 12.5px; overflow-wrap: anywhere }
blockquote { margin: 0 0 14px; padding-left: 14px; border-left: 3px solid var(--line); white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: Georgia, "Liberation Serif", serif }
blockquote b { display: block; font: 12.5px sans-serif; color: var(--faint) }`;

/**
 * A run as one HTML file that needs nothing else: curves, samples, workers, throughput, configuration, digests. Nothing
 * in it runs, and it loads nothing: names and samples are text, whatever they say.
 */
export function htmlReport(events: readonly MetricsEvent[], options: ReportOptions): string {
  const { name, settings, totalSteps, tokensPerStep, stepsPerEpoch } = options;
  const steps = events.filter((event) => event.event === 'step');
  const checkpoints = events.filter((event) => event.event === 'checkpoint');
  const samples = events.filter((event) => event.event === 'sample');
  const last = steps.at(-1);
  const evaluation = events.findLast((event) => event.event === 'eval');
  const done = events.findLast((event) => event.event === 'done');
  const workers = events.findLast((event) => event.event === 'workers')?.workers ?? [];
  const digest = done?.digest ?? checkpoints.at(-1)?.digest;
  const isMixed = events.some(({ event }) => event === 'mixed');
  const seconds = steps.reduce((sum, { tokens, tokensPerSecond }) => sum + finite(tokens / tokensPerSecond), 0);
  const plot = (theme: 'light' | 'dark') =>
    `<div class="${theme}">${lossPlot(events, { tokensPerStep, stepsPerEpoch, title: name, theme })}</div>`;
  const figures: [string, string][] = [
    ['Steps', `${(last?.step ?? 0).toLocaleString('en')} of ${totalSteps.toLocaleString('en')}`],
    ['Training loss', formatLoss(evaluation?.trainLoss ?? last?.loss ?? Number.NaN)],
    ['Validation loss', formatLoss(evaluation?.valLoss ?? Number.NaN)],
    ['Tokens', formatCount((last?.step ?? 0) * tokensPerStep)],
    ['Tokens/s', formatCount((steps.length * tokensPerStep) / seconds)],
    ['Time in steps', formatDuration(seconds)],
  ];
  const parts = [
    `<h1>${escapeHtml(name)}</h1>`,
    `<p class="faint">${done ? 'Done' : 'Not finished'}. A run of lantrain.</p>`,
    `<dl class="figures">${figures.map(([k, v]) => `<div><dt>${k}</dt><dd>${escapeHtml(v)}</dd></div>`).join('')}</dl>`,
    plot('light'),
    plot('dark'),
    section('Digest', [
      `<p><code>${escapeHtml(digest ?? 'none yet: there is no checkpoint')}</code></p>`,
      isMixed ? '<p>Workers of other bit classes took part: the digest is not exact.</p>' : '',
    ]),
    section('Throughput', [speedPlot(steps)]),
    section('Workers', [
      table(
        ['Worker', 'Adapter', 'Bit class', 'Tokens', 'Tokens/s while computing'],
        workers.map((w) => [
          w.name,
          w.adapter,
          w.bitClass,
          formatCount(w.tokens),
          formatCount((1000 * w.tokens) / w.computeMs),
        ]),
      ),
    ]),
    section(
      'Samples',
      samples
        .slice(-MOST_SAMPLES)
        .reverse()
        .map(({ step, text }) => `<blockquote><b>step ${step}</b>${escapeHtml(printable(text))}</blockquote>`),
    ),
    section('Configuration', [table([], settings)]),
    section('Checkpoints', [
      table(
        ['Step', 'SHA-256 of the state'],
        checkpoints.map((c) => [String(c.step), c.digest]),
      ),
    ]),
    section('Events', [
      table(
        ['Step', 'Event', 'Worker', ''],
        events
          .flatMap((e) => ('worker' in e || 'reason' in e ? [e] : []))
          .slice(-MOST_EVENTS)
          .map((e) => [String(e.step ?? ''), e.event, String(e.worker ?? ''), String(e.reason ?? '')]),
      ),
    ]),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(name)}: a run of lantrain</title>
<style>${STYLE}</style>
</head>
<body>
${parts.filter((part) => part !== '').join('\n')}
</body>
</html>
`;
}

function section(title: string, parts: readonly string[]): string {
  const content = parts.filter((part) => part !== '').join('\n');
  return content === '' ? '' : `<section><h2>${title}</h2>\n${content}</section>`;
}

/** Empty where there are no rows. The first cell of each names it. */
function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const head =
    heads.length > 0 ? `<thead><tr>${heads.map((h) => `<th scope="col">${h}</th>`).join('')}</tr></thead>` : '';
  const body = rows.map(
    ([first, ...rest]) =>
      `<tr><th scope="row">${escapeHtml(first)}</th>${rest.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`,
  );
  return `<table>${head}<tbody>${body.join('')}</tbody></table>`;
}

const WIDTH = 760;
const HEIGHT = 120;
const MOST_POINTS = 300;

/** Tokens/s over the steps, each point that of some neighbours together. */
function speedPlot(steps: readonly StepEvent[]): string {
  const size = Math.max(1, Math.ceil(steps.length / MOST_POINTS));
  const speeds: number[] = [];
  for (let from = 0; from < steps.length; from += size) {
    const group = steps.slice(from, from + size);
    const slowness = group.reduce((sum, { tokensPerSecond }) => sum + 1 / tokensPerSecond, 0);
    speeds.push(finite(group.length / slowness));
  }
  if (speeds.length < 2) return '';
  const most = speeds.reduce((a, b) => Math.max(a, b)) || 1;
  const points = speeds.map((speed, i) => {
    const x = (WIDTH * i) / (speeds.length - 1);
    return `${x.toFixed(1)},${(HEIGHT - (HEIGHT - 8) * (speed / most)).toFixed(1)}`;
  });
  return `<figure style="margin:0"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Tokens per second over the steps"><path d="M0 ${HEIGHT - 0.5}H${WIDTH}" stroke="var(--line)"/><polyline points="${points.join(' ')}" fill="none" stroke="var(--accent)" stroke-width="1.6"/></svg>
<figcaption>Tokens/s from step ${steps[0].step} to ${steps[steps.length - 1].step}; the highest point is ${formatCount(most)}.</figcaption></figure>`;
}

const finite = (value: number) => (Number.isFinite(value) ? value : 0);

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
