import { formatCount, formatDuration, formatLoss, formatReal, UNKNOWN } from '../../../src/report/format.js';
import { countTick } from '../../../src/report/ticks.js';
import { insecure } from '../../tab/words.js';
import { formatFragment, parseFragment } from '../messages.js';
import { Chart, type Horizontal, horizontalOf, joined, type Table, windowOf } from './charts.js';
import { Connection, type ConnectionState } from './connection.js';
import { byId, create, Frames, setData, setHidden, setText, type View } from './dom.js';
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
  isLost: () => lostWhy !== undefined && !isOver(),
  lostFor: () => formatDuration((Date.now() - heardAt) / 1000),
  onDrop: (worker) => {
    const name = model.workers.find(({ id }) => id === worker)?.name ?? 'this worker';
    if (confirm(`Drop ${name}? It does not come back by itself.`))
      connection?.send({ type: 'control', action: 'drop', worker });
  },
};

// ---- The curves ----

const loss = new Chart(byId('loss'), {
  curves: [
    { label: 'least', color: '--train-faint', edge: true, format: formatLoss },
    { label: 'most', color: '--train-faint', edge: true, format: formatLoss },
    { label: 'Each step', color: '--train-faint', width: 1, spread: [0, 1], format: formatLoss },
    { label: 'Training', color: '--train', width: 2.25, format: formatLoss },
    { label: 'Validation', color: '--val', width: 2.25, dash: [7, 4], format: formatLoss },
  ],
  bands: [{ edges: [1, 0], color: '--band' }],
  height: 292,
  onZoom: zoomBetween,
});
const speed = new Chart(byId('speed'), {
  curves: [
    { label: 'slowest', color: '--speed-faint', edge: true, format: formatCount, formatTick: countTick },
    { label: 'fastest', color: '--speed-faint', edge: true, format: formatCount },
    { label: 'Tokens/s', color: '--speed', spread: [0, 1], format: formatCount },
  ],
  bands: [{ edges: [1, 0], color: '--speed-band' }],
  height: 168,
  onZoom: zoomBetween,
});
const norm = new Chart(byId('norm'), {
  curves: [
    { label: 'least', color: '--norm-faint', edge: true, format: formatReal },
    { label: 'most', color: '--norm-faint', edge: true, format: formatReal },
    { label: 'Gradient norm', color: '--norm', spread: [0, 1], format: formatReal },
    { label: 'Learning rate', color: '--rate', scale: 'rate', dash: [5, 4], format: formatReal },
  ],
  bands: [{ edges: [1, 0], color: '--norm-band' }],
  right: 'rate',
  height: 168,
  onZoom: zoomBetween,
});

/** The columns that are shown: of the zoom, as soon as they are there. */
function shownColumns() {
  const { zoom, history } = model;
  return zoom?.columns ?? history;
}

/** Draws a chart of `columns`; `more` is joined to them, for a table of other steps. */
function drawChart(chart: Chart, values: readonly (number | null)[][], more?: Table): void {
  const { run, zoom } = model;
  if (run === undefined) return;
  const columns = shownColumns();
  const x = horizontalOf(columns, horizontal, run.tokensPerStep);
  const table: Table = [x, ...values];
  const window = zoom && windowOf(zoom.from, zoom.to, columns.step, x);
  chart.draw(more === undefined ? table : joined(table, more), horizontal, window);
}

const drawLoss: View = () => {
  const { run, shownEvaluations: evaluations } = model;
  if (run === undefined) return;
  const { lossMin, lossMax, loss: mean } = shownColumns();
  const places = { step: evaluations.map((e) => e.step), seconds: evaluations.map((e) => e.seconds) };
  drawChart(
    loss,
    [lossMin, lossMax, mean],
    [
      horizontalOf(places, horizontal, run.tokensPerStep),
      evaluations.map((e) => e.train),
      evaluations.map((e) => e.val),
    ],
  );
  byId<HTMLButtonElement>('zoom-all').disabled = model.zoom === undefined;
};
const drawSpeed: View = () => {
  const { tokensPerSecondMin, tokensPerSecondMax, tokensPerSecond } = shownColumns();
  drawChart(speed, [tokensPerSecondMin, tokensPerSecondMax, tokensPerSecond]);
};
const drawNorm: View = () => {
  const { gradNormMin, gradNormMax, gradNorm, lr } = shownColumns();
  drawChart(norm, [gradNormMin, gradNormMax, gradNorm, lr]);
};

/** Rows of the table: enough to read, and no more than a screen reader can walk through. */
const MOST_ROWS = 50;

const drawTable: View = () => {
  if (!byId<HTMLDetailsElement>('table').open) return;
  const columns = shownColumns();
  const { length } = columns.step;
  const every = Math.max(1, Math.ceil(length / MOST_ROWS));
  const rows: HTMLTableRowElement[] = [];
  const say = (value: number | null | undefined, format: (value: number) => string) =>
    value == null ? UNKNOWN : format(value);
  for (let i = length - 1; i >= 0; i -= every) {
    const first = Math.max(0, i - every + 1);
    const before = first === 0 ? -1 : columns.step[first - 1];
    const evaluation = model.evaluations.findLast(({ step }) => step > before && step <= columns.step[i]);
    const highest = columns.lossMax.slice(first, i + 1).reduce((a, b) => (b === null || (a ?? b) > b ? a : b), null);
    const cells = [
      say(columns.loss[i], formatLoss),
      say(highest, formatLoss),
      say(evaluation?.val, formatLoss),
      say(columns.tokensPerSecond[i], formatCount),
      say(columns.lr[i], formatReal),
      say(columns.gradNorm[i], formatReal),
    ];
    const head = create('th', 'number', columns.step[i].toLocaleString('en'));
    head.scope = 'row';
    rows.push(create('tr', '', head, ...cells.map((text) => create('td', 'number', text))));
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
  // What is newest stays in sight.
  const middle = move === 0 && to >= last ? last - width / 2 : (from + to) / 2 + move * (to - from);
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

/** In which a run is over, as far as this page will see. */
const OVER: ReadonlySet<string> = new Set(['done', 'stopped', 'failed', 'past']);
const isOver = () => OVER.has(model.status?.state ?? '');

function drawControls(): void {
  const state = model.status?.state;
  const isLive = state !== undefined && !isOver();
  setHidden(byId('controls'), !admin || !isLive);
  const canJoin = model.run?.kind === 'cluster' && isLive;
  setHidden(byId('join'), !canJoin);
  setHidden(byId('how-to-join'), !canJoin);
  byId<HTMLFieldSetElement>('controls').disabled = context.isLost();
  byId<HTMLButtonElement>('join').disabled = context.isLost();
  setText(byId('pause'), state === 'paused' ? 'Resume' : 'Pause');
}

/** When the run was heard of last, while it is not. */
let heardAt = Date.now();
let lostWhy: string | undefined;
let lostTimer: ReturnType<typeof setInterval> | undefined;

function onState(now: ConnectionState): void {
  const notice = byId('notice');
  // That it tries again is no better news than that it is lost.
  if (now.state === 'connecting' && lostWhy !== undefined) return;
  document.body.dataset.line = now.state === 'lost' && isOver() ? 'over' : now.state;
  clearInterval(lostTimer);
  lostWhy = undefined;
  if (now.state === 'open') {
    admin = now.admin;
    setHidden(notice, true);
    setHidden(byId('main'), false);
  } else if (now.state === 'lost') {
    lostWhy = now.why;
    // What is over stays as it was.
    setHidden(notice, isOver());
    lostTimer = setInterval(drawLost, 1000);
    drawLost();
  } else if (now.state === 'refused') {
    setText(notice, now.why);
    setHidden(notice, false);
    setHidden(byId('main'), true);
    setText(byId('state'), 'Refused');
    setData(byId('state'), 'state', 'failed');
  }
  show('status');
  show('workers');
  frames.request(drawControls);
}

/** The notice tells why once, for who hears it; how long ago it was stands beside the state. */
function drawLost(): void {
  if (lostWhy === undefined) return;
  setText(byId('notice'), `Not connected: ${lostWhy}. Trying again by itself.`);
  drawStatus(context);
}

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
      ? 'This coordinator listens to this machine only. Start it with lantrain coordinator to let others join.'
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
      heardAt = Date.now();
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
