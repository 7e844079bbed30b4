import {
  epochOf,
  formatCount,
  formatDuration,
  formatLoss,
  formatPercent as percent,
  UNKNOWN,
} from '../../report/format.js';
import type { LogEntry, RunState, Split } from '../messages.js';
import { byId, create, setData, setHidden, setText } from './dom.js';
import type { Model } from './model.js';
import { noiseWords } from './noise.js';

const STATES: Readonly<Record<RunState, string>> = {
  starting: 'Starting',
  waiting: 'Waiting for workers',
  running: 'Training',
  paused: 'Paused',
  stopping: 'Stopping',
  done: 'Done',
  stopped: 'Stopped',
  failed: 'Failed',
  past: 'Not finished',
};

export const formatMs = (ms: number) =>
  ms >= 10_000
    ? `${(ms / 1000).toFixed(0)} s`
    : ms >= 1000
      ? `${(ms / 1000).toFixed(2)} s`
      : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** What the views need of the page. */
export interface ViewContext {
  readonly model: Model;
  /** Whether this page may control the run. */
  readonly isAdmin: () => boolean;
  /** Whether the connection to a running run is lost, so that the page may be out of date. */
  readonly isLost: () => boolean;
  readonly lostFor: () => string;
  readonly onDrop: (worker: number) => void;
}

export function drawRun({ model }: ViewContext): void {
  const { run } = model;
  if (run === undefined) return;
  setText(byId('name'), run.name);
  document.title = `${run.name} · lantrain`;
  setHidden(byId('split-card'), run.kind !== 'cluster');
  setHidden(byId('f-workers-box'), run.kind !== 'cluster');
  setHidden(byId('f-efficiency-box'), run.kind !== 'cluster');
  setData(document.body, 'kind', run.kind);
  byId('settings').replaceChildren(
    ...run.settings.map(([name, value]) => create('div', '', create('dt', '', name), create('dd', '', value))),
  );
}

export function drawStatus({ model, isLost, lostFor }: ViewContext): void {
  const { run, status } = model;
  if (run === undefined || status === undefined) return;
  const { step, state, reason, secondsLeft, tokensPerSecond, efficiency, mixed, inexact, awaited, noise } = status;
  const lost = isLost();
  const pill = byId('state');
  setText(pill, lost ? 'Lost' : STATES[state]);
  setData(pill, 'state', lost ? 'lost' : state);
  setHidden(byId('mixed'), !mixed);
  const remarks = [
    ...(reason === undefined ? [] : [`Failed: ${reason}`]),
    ...(inexact === undefined ? [] : [`This run is ${inexact}`]),
    ...(awaited === undefined ? [] : [awaited]),
  ];
  setText(byId('reason'), lost ? '' : remarks.join(' · '));
  setHidden(byId('reason'), remarks.length === 0 || lost);
  const progress = byId<HTMLProgressElement>('progress');
  progress.max = run.totalSteps;
  progress.value = step;
  const epochs = epochOf(run.totalSteps, run.stepsPerEpoch);
  const left = secondsLeft === null ? '' : ` · ${formatDuration(secondsLeft)} left`;
  const end = lost ? ` · last heard of ${lostFor()} ago` : left;
  setText(
    byId('way'),
    `step ${step.toLocaleString('en')} of ${run.totalSteps.toLocaleString('en')} · epoch ${epochOf(step, run.stepsPerEpoch)} of ${epochs}${end}`,
  );
  const say = (id: string, value: number | null | undefined, format: (value: number) => string) =>
    setText(byId(id), value == null ? UNKNOWN : format(value));
  say('f-loss', model.loss, formatLoss);
  say('f-val', model.validation, formatLoss);
  say('f-speed', lost ? null : tokensPerSecond, formatCount);
  say('f-efficiency', lost ? null : efficiency, percent);
  say('f-tokens', step * run.tokensPerStep, formatCount);
  say('f-left', lost ? null : secondsLeft, formatDuration);
  setText(byId('noise'), noise == null ? '' : noiseWords(noise));
  setHidden(byId('noise'), noise == null);
}

const WORK = { compute: 'Compute', upload: 'Upload', wait: 'Wait', download: 'Download' } as const;
const OWNER = { sum: 'Sum', update: 'Update' } as const;

/** Two bars on one scale: a worker's step, and the coordinator's time meanwhile. */
export function drawSplit({ model }: ViewContext): void {
  const box = byId('split');
  const { split } = model;
  setText(byId('split-step'), split === null ? '' : formatMs(split.step));
  if (split === null) {
    box.replaceChildren(create('p', 'faint', 'Known after some steps.'));
    return;
  }
  const worker = (Object.keys(WORK) as (keyof typeof WORK)[]).map((key) => [key, WORK[key], split[key]] as const);
  const owner = (Object.keys(OWNER) as (keyof typeof OWNER)[]).map((key) => [key, OWNER[key], split[key]] as const);
  const sum = (segments: readonly BarSegment[]) => segments.reduce((all, [, , ms]) => all + ms, 0);
  const longest = Math.max(sum(worker), sum(owner), 1e-3);
  const bars = [bar('A worker, on average', worker, longest), bar('The coordinator', owner, longest)];
  box.replaceChildren(...bars, ...[keyOf([...worker, ...owner], split)]);
}

type BarSegment = readonly [key: string, name: string, ms: number];

function bar(title: string, segments: readonly BarSegment[], longest: number): HTMLElement {
  const elements = segments.map(([key, , ms]) => {
    const element = create('i', `part-${key}`);
    element.style.setProperty('--part', String(ms / longest));
    return element;
  });
  const stack = create('div', 'stack', ...elements);
  stack.setAttribute('aria-hidden', 'true');
  return create('div', 'stacked', create('p', 'faint', title), stack);
}

function keyOf(segments: readonly BarSegment[], split: Split): HTMLElement {
  return create(
    'dl',
    'key',
    ...segments.map(([key, name, ms]) => {
      const share = split.step > 0 ? ` ${percent(ms / split.step)}` : '';
      return create(
        'div',
        '',
        create('dt', '', create('i', `part-${key}`), name),
        create('dd', '', formatMs(ms), create('small', '', share)),
      );
    }),
  );
}

const KINDS: Readonly<Record<string, string>> = {
  join: 'joined',
  leave: 'left',
  fence: 'fenced',
  unfence: 'back',
  refuse: 'refused',
  mixed: 'mixed',
  inexact: 'not exact',
  awaited: 'awaited',
  late: 'late',
  refuted: 'refuted',
  resume: 'resumed',
  stale: 'stale',
  audit: 'audit',
  unaudited: 'unaudited',
  checkpoint: 'checkpoint',
  admin: 'admin',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};
const SHOWN_LOG = 120;
let logged: LogEntry | undefined;

/** Adds only new lines, so that a screen reader reads only those. */
export function drawLog({ model }: ViewContext): void {
  const list = byId('log');
  const from = logged === undefined ? 0 : model.log.lastIndexOf(logged) + 1;
  if (from === 0) list.replaceChildren();
  for (const entry of model.log.slice(Math.max(from, model.log.length - SHOWN_LOG))) {
    const when = entry.at === null ? `step ${entry.step}` : new Date(entry.at).toLocaleTimeString();
    const kind = create('b', '', KINDS[entry.kind] ?? entry.kind);
    kind.dataset.kind = entry.kind;
    const who = entry.worker === undefined ? [] : [create('span', 'who', entry.worker), ' '];
    const time = create('time', '', when);
    time.title = `step ${entry.step}`;
    list.prepend(create('li', '', time, kind, create('span', '', ...who, entry.text)));
  }
  while (list.childElementCount > SHOWN_LOG) list.lastElementChild?.remove();
  logged = model.log.at(-1);
}

export function drawCheckpoints({ model }: ViewContext): void {
  // A checkpoint that was written twice is listed once.
  const checkpoints = [...new Map(model.checkpoints.map((checkpoint) => [checkpoint.step, checkpoint])).values()];
  byId('checkpoints').replaceChildren(
    ...(checkpoints.length === 0 ? [create('li', 'faint', 'None yet.')] : []),
    ...checkpoints
      .slice(-30)
      .reverse()
      .map(({ step, digest, path }) => {
        const code = create('code', '', digest);
        const entry = create('li', '', create('b', '', `step ${step.toLocaleString('en')}`), code);
        entry.title = path;
        return entry;
      }),
  );
}

/** The sample that is shown, counted from the newest, so that the newest stays selected. */
let sampleFromEnd = 0;

export function moveSample(model: Model, by: number): void {
  sampleFromEnd = Math.min(Math.max(0, sampleFromEnd - by), Math.max(0, model.samples.length - 1));
}

export function drawSample({ model }: ViewContext): void {
  const { samples } = model;
  const index = samples.length - 1 - sampleFromEnd;
  const sample = samples[index];
  setText(byId('sample'), sample?.text ?? 'No sample yet.');
  setText(byId('sample-step'), sample === undefined ? '' : `step ${sample.step.toLocaleString('en')}`);
  byId<HTMLButtonElement>('sample-before').disabled = index <= 0;
  byId<HTMLButtonElement>('sample-after').disabled = sampleFromEnd === 0;
}
