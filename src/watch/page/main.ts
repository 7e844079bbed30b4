import { formatDuration } from '../../report/format.js';
import { formatFragment, OVER, parseFragment } from '../messages.js';
import type { Horizontal } from './axis.js';
import { type ConnectionState, PageConnection } from './connection.js';
import { Curves } from './curves.js';
import { loadDevicePanel } from './device-panel.js';
import { byId, Frames, type PageView, setData, setHidden, setText } from './dom.js';
import { Model, type Part } from './model.js';
import { insecure } from './secure-context.js';
import {
  drawCheckpoints,
  drawLog,
  drawRun,
  drawSample,
  drawSplit,
  drawStatus,
  moveSample,
  type ViewContext,
} from './views.js';
import { drawWorkers } from './worker-rows.js';

const secrets = parseFragment(location.hash);
const model = new Model();
const frames = new Frames();
let admin = false;
let connection: PageConnection | undefined;

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

const curves = new Curves(
  model,
  (range) => connection?.send({ type: 'range', ...range }),
  () => show('history'),
);

const VIEWS: Readonly<Record<Part, readonly PageView[]>> = {
  run: [() => drawRun(context)],
  status: [() => drawStatus(context)],
  history: curves.views,
  workers: [() => drawWorkers(context)],
  split: [() => drawSplit(context)],
  log: [() => drawLog(context)],
  samples: [() => drawSample(context)],
  checkpoints: [() => drawCheckpoints(context)],
};

function show(part: Part): void {
  for (const view of VIEWS[part]) frames.request(view);
}

const isOver = () => model.status !== undefined && OVER.has(model.status.state);

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

/** Time of the last message before the connection was lost. */
let heardAt = Date.now();
let lostWhy: string | undefined;
let lostTimer: ReturnType<typeof setInterval> | undefined;

function onState(now: ConnectionState): void {
  const notice = byId('notice');
  // While it reconnects, the page still shows that the connection is lost.
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
    // A run that is over does not change, so a lost connection does not matter.
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

/**
 * The notice says why, once, since screen readers read it out. The time since the last message is shown beside the
 * state.
 */
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

/** The page's link for others, without the admin token. */
function joinLink(): string {
  return `${model.run?.address ?? `${location.origin}/`}${formatFragment({ ...secrets, admin: '' })}`;
}

/** The URL for the command line, without the token: all users of a machine can read arguments. */
function joinArguments(): string {
  const address = (model.run?.address ?? `${location.origin}/`).replace(/^http/, 'ws');
  const fragment = secrets.fingerprint === '' ? '' : formatFragment({ ...secrets, token: '', admin: '' });
  return `worker ${address}${fragment}`;
}

/** Says that the link is copied only after success, because browsers may forbid it. */
async function copyLink(): Promise<void> {
  const copied = await navigator.clipboard?.writeText(joinLink()).then(
    () => true,
    () => false,
  );
  setText(byId('copy'), copied ? 'Copied' : 'This browser forbids it: scan the code, or share the page');
}

async function openJoin(): Promise<void> {
  const { run } = model;
  if (run === undefined) return;
  setText(byId('copy'), 'Copy the link');
  setText(byId('join-link'), run.address ?? `${location.origin}/`);
  setText(byId('join-command'), joinArguments());
  const hint =
    run.address === undefined
      ? 'This run listens to its own machine only. One that others can join is started with the command coordinator.'
      : location.protocol === 'https:'
        ? "The browser will warn of the certificate: it is the coordinator's own, which no authority knows. The traffic is encrypted all the same."
        : '';
  setText(byId('join-hint'), hint);
  byId<HTMLDialogElement>('join-dialog').showModal();
  const [{ drawQr }, mountDevicePanel] = await Promise.all([import('./qr.js'), loadDevicePanel()]);
  drawQr(byId('qr'), joinLink());
  const device = byId('device');
  // Mounted once: a device that has joined keeps computing while the dialog is closed.
  if (!device.hasChildNodes())
    mountDevicePanel(device, `${location.origin}/${formatFragment({ ...secrets, admin: '' })}`);
}

function listen(): void {
  const on = (id: string, act: () => void) => byId(id).addEventListener('click', act);
  const control = (action: 'pause' | 'resume' | 'checkpoint' | 'stop') => connection?.send({ type: 'control', action });
  on('pause', () => control(model.status?.state === 'paused' ? 'resume' : 'pause'));
  on('checkpoint', () => control('checkpoint'));
  on('stop', () => {
    if (confirm('Stop the run after this step, with a checkpoint?')) control('stop');
  });
  on('zoom-in', () => curves.zoomBy(0.5));
  on('zoom-out', () => curves.zoomBy(2));
  on('zoom-left', () => curves.zoomBy(1, -0.5));
  on('zoom-right', () => curves.zoomBy(1, 0.5));
  on('zoom-all', () => curves.showWhole());
  on('sample-before', () => {
    moveSample(model, -1);
    show('samples');
  });
  on('sample-after', () => {
    moveSample(model, 1);
    show('samples');
  });
  on('join', () => void openJoin());
  on('copy', () => void copyLink());
  byId('loss').addEventListener('dblclick', () => curves.showWhole());
  byId('table').addEventListener('toggle', () => show('history'));
  for (const input of document.querySelectorAll<HTMLInputElement>('input[name=by]'))
    input.addEventListener('change', () => {
      curves.horizontal = input.value as Horizontal;
      show('history');
    });
  addEventListener('hashchange', () => location.reload());
}

function begin(): void {
  listen();
  // Makes boxes scrollable by keys, which not every browser does.
  for (const box of document.querySelectorAll<HTMLElement>('.scroll')) box.tabIndex = 0;
  if (secrets.token === '') {
    onState({ state: 'refused', why: 'This link has no token. Open the whole link that the coordinator printed.' });
    return;
  }
  if (!isSecureContext) {
    // Without a secure context there is no WebCrypto to prove the token.
    onState({ state: 'refused', why: insecure(location.host).join(' ') });
    return;
  }
  connection = new PageConnection(
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
