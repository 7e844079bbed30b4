import { LONGEST_WORDS, printable, printableLine } from '../util/printable.js';
import { bitClassesOf, nameBitClasses } from './bit-classes.js';
import { courseOf, endOf, type RunEnd } from './course.js';
import { inexactOf, inexactText } from './exactness.js';
import { formatCount, formatDuration, formatLoss, reasonOf, UNKNOWN } from './format.js';
import { LossCurves } from './loss-curves.js';
import type { MetricsEvent } from './metrics.js';
import { lossPlot } from './plot.js';
import { meanSpeed, secondsIn } from './speed.js';
import { speedPlot } from './speed-plot.js';
import { workersOf } from './workers.js';

export interface ReportOptions {
  readonly name: string;
  /** Pairs of name and value of the configuration. */
  readonly settings: readonly (readonly [string, string])[];
  readonly totalSteps: number;
  readonly tokensPerStep: number;
  readonly stepsPerEpoch: number;
}

/** The newest samples and events that are shown. */
const MOST_SAMPLES = 12;
const MOST_EVENTS = 200;

const STYLE = `
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --faint: #59636e; --line: #e4e8ec; --accent: #1668c7 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --faint: #9198a1; --line: #262c36; --accent: #58a6ff }
  .light { display: none }
}
@media (prefers-color-scheme: light) { .dark { display: none } }
@media (min-width: 561px) { .narrow { display: none } }
@media (max-width: 560px) { .wide { display: none } }
body { max-width: 820px; margin: 0 auto; padding: 24px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 -apple-system, "Segoe UI", Roboto, Helvetica, Arial, "Liberation Sans", sans-serif }
h1 { margin: 0; font-size: 26px } h2 { margin: 34px 0 10px; font-size: 17px }
.faint, th, dt, figcaption { color: var(--faint); font-weight: 400 }
svg { display: block; width: 100%; height: auto }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 14px; margin: 20px 0 }
.figures dt, .figures dd { white-space: nowrap } .figures dd { margin: 0; font-size: 22px; font-weight: 600 }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 4px 12px 4px 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: anywhere }
td, th[scope="row"] { min-width: 5.5em } th[scope="col"] { overflow-wrap: normal } .short { overflow-wrap: normal; white-space: nowrap; min-width: 0 !important }
h1, p { overflow-wrap: anywhere } code { font-size: 12.5px; overflow-wrap: anywhere }
@media (max-width: 400px) { body { padding: 16px 12px 40px } table { font-size: 13px } th, td { padding-right: 8px } }
@media (max-width: 350px) { .short { white-space: normal } td, th[scope="row"] { min-width: 0 } }
.band { fill: var(--accent); opacity: .25 }
blockquote { margin: 0 0 14px; padding-left: 14px; border-left: 3px solid var(--line); white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: Georgia, "Liberation Serif", serif }
blockquote b { display: block; font: 12.5px sans-serif; color: var(--faint) }`;

/**
 * A run as one self-contained HTML file: curves, samples, workers, throughput, configuration, digests. It contains no
 * script and loads nothing. Names and samples are escaped.
 */
export function htmlReport(events: readonly MetricsEvent[], options: ReportOptions): string {
  const { name, settings, totalSteps, tokensPerStep, stepsPerEpoch } = options;
  const course = courseOf(events);
  const steps = course.filter((event) => event.event === 'step');
  const checkpoints = course.filter((event) => event.event === 'checkpoint');
  const samples = course.filter((event) => event.event === 'sample');
  const last = steps.at(-1);
  const evaluation = course.findLast((event) => event.event === 'eval');
  const done = course.findLast((event) => event.event === 'done');
  const workers = workersOf(course);
  const { classes, mixed } = bitClassesOf(course);
  const inexact = inexactOf(course);
  const nameOfClass = nameBitClasses(classes);
  const digest = done?.digest ?? checkpoints.at(-1)?.digest;
  const losses = LossCurves.of(course);
  const plots = (['light', 'dark'] as const).flatMap((theme) =>
    [false, true].map((narrow) => {
      const svg = lossPlot(losses, { tokensPerStep, stepsPerEpoch, title: name, theme, narrow });
      return `<div class="${theme}"><div class="${narrow ? 'narrow' : 'wide'}">${svg}</div></div>`;
    }),
  );
  const figures: [string, string][] = [
    [`Steps of ${totalSteps.toLocaleString('en')}`, (last?.step ?? 0).toLocaleString('en')],
    ['Training loss', shown(evaluation?.trainLoss ?? last?.loss, formatLoss)],
    ['Validation loss', shown(evaluation?.valLoss, formatLoss)],
    ['Tokens seen', formatCount((last?.step ?? 0) * tokensPerStep)],
    ['Tokens/s', steps.length === 0 ? UNKNOWN : formatCount(meanSpeed(steps))],
    ['Time in steps', formatDuration(secondsIn(steps))],
  ];
  const parts = [
    `<h1>${escapeHtml(name)}</h1>`,
    `<p class="faint">${escapeHtml(sentence(endOf(course)))} A run of lantrain.</p>`,
    `<dl class="figures">${figures.map(([k, v]) => `<div><dt>${k}</dt><dd>${escapeHtml(v)}</dd></div>`).join('')}</dl>`,
    ...plots,
    section('Digest', [
      `<p><code>${escapeHtml(digest ?? 'none yet: there is no checkpoint')}</code></p>`,
      inexact === undefined ? '' : `<p>The run is ${escapeHtml(inexactText(inexact))}.</p>`,
      mixed ? '<p>Workers of other bit classes took part: the digest is not exact.</p>' : '',
    ]),
    section('Throughput', [speedPlot(steps)]),
    section('Workers', [
      table(
        ['Worker', 'Bit class', 'Tokens', 'Tokens/s while at work'],
        workers.map((w) => [
          `${printableLine(w.name, LONGEST_WORDS)}\n${printableLine(w.adapter, LONGEST_WORDS)}`,
          nameOfClass.get(w.bitClass) ?? UNKNOWN,
          formatCount(w.tokens),
          formatCount((1000 * w.tokens) / w.computeMs),
        ]),
        [1, 2, 3],
      ),
      classes.length > 1 ? bitClassTable(nameOfClass) : '',
    ]),
    section(
      'Samples',
      samples
        .slice(-MOST_SAMPLES)
        .reverse()
        .map(
          ({ step, text }) => `<blockquote><b>step ${step.toLocaleString('en')}</b>${escapeHtml(text)}</blockquote>`,
        ),
    ),
    section('Configuration', [
      table(
        [],
        settings.map(([name, value]) => [name, printableLine(value)]),
      ),
    ]),
    section('Checkpoints', [
      table(
        ['Step', 'SHA-256 of the state'],
        checkpoints.map((c) => [c.step.toLocaleString('en'), c.digest]),
        [0],
      ),
    ]),
    section('Events', [
      table(
        ['Step', 'Event', 'Worker', ''],
        events
          .flatMap((e) => ('worker' in e || 'reason' in e || e.event === 'stopped' ? [e] : []))
          .slice(-MOST_EVENTS)
          .map((e) => [
            e.step?.toLocaleString('en') ?? '',
            e.event,
            printableLine(String(e.worker ?? ''), LONGEST_WORDS),
            printableLine(reasonOf(e)),
          ]),
        [0, 1],
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

/** An HTML table; empty without rows. The first cell of a row is its heading. Columns in `short` are not wrapped. */
function table(heads: readonly string[], rows: readonly (readonly string[])[], short: readonly number[] = []): string {
  if (rows.length === 0) return '';
  const head =
    heads.length > 0 ? `<thead><tr>${heads.map((h) => `<th scope="col">${h}</th>`).join('')}</tr></thead>` : '';
  const cell = (text: string, i: number) => {
    const [first, ...more] = text.split('\n').map(escapeHtml);
    const content = first + more.map((line) => `<br><small>${line}</small>`).join('');
    const look = short.includes(i) ? ' class="short"' : '';
    return i === 0 ? `<th scope="row"${look}>${content}</th>` : `<td${look}>${content}</td>`;
  };
  const body = rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`);
  return `<table>${head}<tbody>${body.join('')}</tbody></table>`;
}

/** The full hashes of the bit classes in the table above. */
function bitClassTable(names: ReadonlyMap<string, string>): string {
  return table(
    ['Bit class', 'Hashes of what its adapters compute'],
    [...names].map(([bitClass, name]) => [name, bitClass]),
    [0],
  );
}

function sentence({ state, reason }: RunEnd): string {
  if (state === 'failed') return `Failed: ${(reason ?? 'why is not known').replace(/[.!?]$/, '')}.`;
  return { done: 'Done.', stopped: 'Stopped before its last step.', unfinished: 'Not finished.' }[state];
}

const shown = (value: number | null | undefined, format: (value: number) => string) =>
  value == null ? UNKNOWN : format(value);

/** Escapes markup and makes invisible characters visible. */
function escapeHtml(text: string): string {
  return printable(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
