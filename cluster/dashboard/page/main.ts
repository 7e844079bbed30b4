import { formatCount } from '../../../src/report/format.js';
import { insecure } from '../../tab/words.js';
import { formatFragment, parseFragment } from '../messages.js';
import { Chart, type Horizontal, horizontalOf, joined, type Table } from './charts.js';
import { Connection, type ConnectionState } from './connection.js';
import { byId, create, Frames, setHidden, setText, type View } from './dom.js';
import { Model, type Part } from './model.js';
import {
  drawCheckpoints,
  drawLog,
  drawRun,
  drawSample,
  drawSplit,
  drawStatus,
  drawWorkers,
  moveSample,
  type ViewContext,
} from './views.js';

const secrets = parseFragment(location.hash);
const model = new Model();
const frames = new Frames();
let admin = false;
let connection: Connection | undefined;
let horizontal: Horizontal = 'step';

const context: ViewContext = {
  model,
  isAdmin: () => admin,
  onDrop: (worker) => {
    const name = model.workers.find(({ id }) => id === worker)?.name ?? 'this worker';
    if (confirm(`Drop ${name}? It does not come back by itself.`))
      connection?.send({ type: 'control', action: 'drop', worker });
  },
};

// ---- The curves ----

const loss = new Chart(byId('loss'), {
  curves: [
    { label: 'Each step', color: '--train-faint', width: 1, format: (v) => v.toFixed(3) },
    { label: 'least', color: '--train-faint', edge: true, format: String },
    { label: 'most', color: '--train-faint', edge: true, format: String },
    { label: 'Training', color: '--train', width: 2.25, points: false, format: (v) => v.toFixed(3) },
    { label: 'Validation', color: '--val', width: 2.25, dash: [7, 4], format: (v) => v.toFixed(3) },
  ],
  bands: [[2, 1]],
  height: 292,
  onZoom: zoomBetween,
});
const speed = new Chart(byId('speed'), {
  curves: [{ label: 'Tokens/s', color: '--speed', format: formatCount, formatTick: formatCount }],
  height: 168,
  onZoom: zoomBetween,
});
const norm = new Chart(byId('norm'), {
  curves: [
    { label: 'Gradient norm', color: '--norm', format: (v) => Number(v.toPrecision(3)).toString() },
    { label: 'Learning rate', color: '--rate', scale: 'rate', dash: [5, 4], format: (v) => v.toPrecision(2) },
  ],
  right: 'rate',
  height: 168,
  onZoom: zoomBetween,
});

/** The columns that are shown: of the zoom, as soon as they are there. */
function shownColumns() {
  const { zoom, history } = model;
  return zoom?.columns ?? history;
}

const drawLoss: View = () => {
  const { run } = model;
  if (run === undefined) return;
  const columns = shownColumns();
  const { zoom } = model;
  const evaluations = model.evaluations.filter(
    ({ step }) => zoom === undefined || (step >= zoom.from && step <= zoom.to),
  );
  const each: Table = [
    horizontalOf(columns, horizontal, run.tokensPerStep),
    columns.loss,
    columns.lossMin,
    columns.lossMax,
  ];
  const x = { step: evaluations.map((e) => e.step), seconds: evaluations.map((e) => e.seconds) };
  loss.draw(
    joined(each, [
      horizontalOf(x, horizontal, run.tokensPerStep),
      evaluations.map((e) => e.train),
      evaluations.map((e) => e.val),
    ]),
    horizontal,
  );
  byId<HTMLButtonElement>('zoom-all').disabled = zoom === undefined;
};
const drawSpeed: View = () => {
  if (model.run === undefined) return;
  const columns = shownColumns();
  speed.draw([horizontalOf(columns, horizontal, model.run.tokensPerStep), columns.tokensPerSecond], horizontal);
};
const drawNorm: View = () => {
  if (model.run === undefined) return;
  const columns = shownColumns();
  norm.draw([horizontalOf(columns, horizontal, model.run.tokensPerStep), columns.gradNorm, columns.lr], horizontal);
};

/** Rows of the table: enough to read, and no more than a screen reader can walk through. */
const MOST_ROWS = 50;

const drawTable: View = () => {
  if (!byId<HTMLDetailsElement>('table').open) return;
  const columns = shownColumns();
  const { length } = columns.step;
  const every = Math.max(1, Math.ceil(length / MOST_ROWS));
  const rows: HTMLTableRowElement[] = [];
  for (let i = length - 1; i >= 0; i -= every) {
    const before = i - every < 0 ? -1 : columns.step[i - every];
    const evaluation = model.evaluations.findLast(({ step }) => step > before && step <= columns.step[i]);
    const cells = [
      columns.loss[i]?.toFixed(3),
      evaluation?.val?.toFixed(3),
      columns.tokensPerSecond[i] === null ? undefined : formatCount(columns.tokensPerSecond[i] ?? Number.NaN),
      columns.lr[i]?.toPrecision(3),
      columns.gradNorm[i]?.toPrecision(3),
    ];
    const head = create('th', '', columns.step[i].toLocaleString('en'));
    head.scope = 'row';
    rows.push(create('tr', '', head, ...cells.map((text) => create('td', 'number', text ?? '–'))));
  }
  byId('rows').replaceChildren(...rows);
};

/** Steps of an x of the charts. */
function stepAt(x: number): number {
  if (horizontal === 'step' || model.run === undefined) return x;
  if (horizontal === 'tokens') return x / model.run.tokensPerStep;
  const columns = shownColumns();
  const i = columns.seconds.findIndex((seconds) => (seconds ?? 0) >= x);
  return columns.step[i < 0 ? columns.step.length - 1 : i] ?? 0;
}

function zoomBetween(from: number, to: number): void {
  zoomToSteps(stepAt(from), stepAt(to));
}

function zoomToSteps(from: number, to: number): void {
  const last = model.history.step.at(-1) ?? 0;
  const begin = Math.max(0, Math.floor(from));
  const end = Math.min(last, Math.ceil(to));
  if (end - begin < 2) return;
  if (begin <= 1 && end >= last) showWhole();
  else connection?.send({ type: 'range', ...model.zoomTo(begin, end) });
}

function showWhole(): void {
  model.zoom = undefined;
  show('history');
}

/** Zooms by a factor about the middle, or moves by a part of what is seen. */
function zoomBy(factor: number, move = 0): void {
  const last = model.history.step.at(-1) ?? 0;
  const { from, to } = model.zoom ?? { from: 0, to: last };
  const width = (to - from) * factor;
  // From the whole run one zooms in on what is newest.
  const middle = model.zoom === undefined ? last - width / 2 : (from + to) / 2 + move * (to - from);
  const begin = Math.min(Math.max(0, middle - width / 2), Math.max(0, last - width));
  zoomToSteps(begin, begin + width);
}

// ---- What is drawn when ----

const VIEWS: Readonly<Record<Part, readonly View[]>> = {
  run: [() => drawRun(context)],
  status: [() => drawStatus(context)],
  history: [drawLoss, drawSpeed, drawNorm, drawTable],
  workers: [() => drawWorkers(context)],
  split: [() => drawSplit(context)],
  log: [() => drawLog(context)],
  samples: [() => drawSample(context)],
  checkpoints: [() => drawCheckpoints(context)],
};

function show(part: Part): void {
  for (const view of VIEWS[part]) frames.request(view);
}

function drawControls(): void {
  const state = model.status?.state;
  const isLive = state !== undefined && !['done', 'stopped', 'failed', 'past'].includes(state);
  setHidden(byId('controls'), !admin || !isLive);
  setHidden(byId('join'), model.run?.kind !== 'cluster' || !isLive);
  setText(byId('pause'), state === 'paused' ? 'Resume' : 'Pause');
}

function onState(now: ConnectionState): void {
  const notice = byId('notice');
  document.body.dataset.line = now.state;
  if (now.state === 'open') {
    admin = now.admin;
    setHidden(notice, true);
    setHidden(byId('main'), false);
  } else if (now.state === 'lost') {
    setText(notice, `Not connected: ${now.why}. Trying again by itself.`);
    setHidden(notice, isOver());
  } else if (now.state === 'refused') {
    setText(notice, now.why);
    setHidden(notice, false);
    setHidden(byId('main'), true);
    setText(byId('state'), 'Refused');
  }
}

const isOver = () => ['done', 'stopped', 'failed'].includes(model.status?.state ?? '');

let answerTimer: ReturnType<typeof setTimeout> | undefined;

function showAnswer(text: string): void {
  const answer = byId('answer');
  setText(answer, text);
  setHidden(answer, false);
  clearTimeout(answerTimer);
  answerTimer = setTimeout(() => setHidden(answer, true), 5_000);
}

// ---- Joining ----

/** The link for others: where they reach the page, and never with the admin token. */
function joinLink(): string {
  return `${model.run?.address ?? `${location.origin}/`}${formatFragment({ ...secrets, admin: '' })}`;
}

async function openJoin(): Promise<void> {
  const { run } = model;
  if (run === undefined) return;
  setText(byId('join-link'), run.address ?? `${location.origin}/`);
  const hint =
    run.address === undefined
      ? 'This run listens to its own machine only. One that others can join is started with the command coordinator.'
      : location.protocol === 'https:'
        ? "The browser will warn of the certificate: it is the coordinator's own, which no authority knows. The traffic is encrypted all the same."
        : '';
  setText(byId('join-hint'), hint);
  byId<HTMLDialogElement>('join-dialog').showModal();
  const [{ drawQr }, { mountDevicePanel }, { parseJoinUrl }] = await Promise.all([
    import('./qr.js'),
    import('../../tab/panel.js'),
    import('../../join-url.js'),
  ]);
  drawQr(byId('qr'), joinLink());
  const device = byId('device');
  // Once: a device that has joined stays so while the dialog is closed.
  if (!device.hasChildNodes())
    mountDevicePanel(device, parseJoinUrl(`${location.origin}/${formatFragment({ ...secrets, admin: '' })}`));
}

// ---- The beginning ----

function listen(): void {
  const on = (id: string, act: () => void) => byId(id).addEventListener('click', act);
  const control = (action: 'pause' | 'resume' | 'checkpoint' | 'stop') => connection?.send({ type: 'control', action });
  on('pause', () => control(model.status?.state === 'paused' ? 'resume' : 'pause'));
  on('checkpoint', () => control('checkpoint'));
  on('stop', () => {
    if (confirm('Stop the run after this step, with a checkpoint?')) control('stop');
  });
  on('zoom-in', () => zoomBy(0.5));
  on('zoom-out', () => zoomBy(2));
  on('zoom-left', () => zoomBy(1, -0.5));
  on('zoom-right', () => zoomBy(1, 0.5));
  on('zoom-all', showWhole);
  on('sample-before', () => {
    moveSample(model, -1);
    show('samples');
  });
  on('sample-after', () => {
    moveSample(model, 1);
    show('samples');
  });
  on('join', () => void openJoin());
  on('copy', () => {
    void navigator.clipboard?.writeText(joinLink());
    setText(byId('copy'), 'Copied');
  });
  byId('loss').addEventListener('dblclick', showWhole);
  byId('table').addEventListener('toggle', () => frames.request(drawTable));
  for (const input of document.querySelectorAll<HTMLInputElement>('input[name=by]'))
    input.addEventListener('change', () => {
      horizontal = input.value as Horizontal;
      show('history');
    });
  addEventListener('hashchange', () => location.reload());
}

function begin(): void {
  listen();
  // Whoever has no mouse scrolls with the keys, and not every browser lets them by itself.
  for (const box of document.querySelectorAll<HTMLElement>('.scroll')) box.tabIndex = 0;
  if (secrets.token === '') {
    onState({ state: 'refused', why: 'This link has no token. Open the whole link that the coordinator printed.' });
    return;
  }
  if (!isSecureContext) {
    // Nor is there WebCrypto, to prove the token.
    onState({ state: 'refused', why: insecure(location.host).join(' ') });
    return;
  }
  connection = new Connection(
    secrets,
    (message) => {
      if (message.type === 'answer') showAnswer(message.text);
      for (const part of model.apply(message)) show(part);
      const whole = model.wantsWhole();
      if (whole !== undefined) connection?.send({ type: 'range', ...whole });
      frames.request(drawControls);
    },
    onState,
  );
}

begin();
