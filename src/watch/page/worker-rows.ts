import { formatCount, formatPercent as percent, UNKNOWN } from '../../report/format.js';
import { OWNER_ID, type WorkerInfo, type WorkerState } from '../messages.js';
import { byId, create, setData, setHidden, setText } from './dom.js';
import { formatMs, type ViewContext } from './views.js';

const WORKER_STATES: Readonly<Record<WorkerState, string>> = {
  joining: 'joins',
  loading: 'takes in the weights',
  waiting: 'waits',
  computing: 'computes',
  uploading: 'uploads',
  evaluating: 'evaluates',
  fenced: 'has to wait',
  left: 'has left',
};
/** Tooltips of workers' states. */
const WORKER_TITLES: Partial<Readonly<Record<WorkerState, string>>> = {
  fenced: 'It has not done its work in time: others have it, and it is dealt none for a while',
  left: 'It has taken part and is not there any more',
};

interface Row {
  readonly row: HTMLTableRowElement;
  readonly name: HTMLElement;
  readonly adapter: HTMLElement;
  readonly now: HTMLElement;
  readonly done: HTMLElement;
  readonly share: HTMLElement;
  readonly bar: HTMLElement;
  readonly speed: HTMLElement;
  readonly tokens: HTMLElement;
  readonly trip: HTMLElement;
  readonly bits: HTMLElement;
  readonly drop: HTMLElement;
}

const rows = new Map<number, Row>();

export function drawWorkers({ model, isAdmin, isLost, onDrop }: ViewContext): void {
  const body = byId('workers');
  const { workers } = model;
  const there = new Set(workers.map(({ id }) => id));
  for (const [id, { row }] of rows)
    if (!there.has(id)) {
      row.remove();
      rows.delete(id);
    }
  for (const worker of workers) {
    const row = rows.get(worker.id) ?? newRow(worker, body, onDrop);
    drawRow(row, worker, isAdmin(), isLost());
  }
  setHidden(byId('drop-column'), !isAdmin());
  const present = workers.filter(({ state }) => state !== 'left').length;
  setHidden(byId('no-workers'), present > 0 || model.run?.kind !== 'cluster');
  setHidden(byId('workers-card'), model.run?.kind !== 'cluster' && workers.length === 0);
  setText(byId('f-workers'), String(present));
  setText(byId('workers-note'), model.status?.mixed ? 'of several bit classes: the digest is not exact' : '');
}

function newRow(worker: WorkerInfo, body: HTMLElement, onDrop: (worker: number) => void): Row {
  const cell = (className = '', ...children: (Node | string)[]) => create('td', className, ...children);
  const name = create('b');
  const adapter = create('small');
  const bar = create('i');
  const share = create('span');
  const now = create('span', 'now');
  const done = create('small');
  const button = create('button', 'small', 'Drop');
  button.type = 'button';
  button.addEventListener('click', () => onDrop(worker.id));
  const [speed, tokens, trip, bits] = [cell('number'), cell('number'), cell('number'), cell('bits')];
  const drop = cell('drop', button);
  const head = create('th', '', name, adapter);
  head.scope = 'row';
  const state = cell('now-column', now, ' ', done);
  const row = create('tr', '', head, state, cell('bar-column', bar, share), speed, tokens, trip, bits, drop);
  for (const [element, label] of [
    [speed, 'Tokens/s'],
    [tokens, 'Tokens'],
    [trip, 'Round trip'],
    [bits, 'Bit class'],
  ] as const)
    element.dataset.label = label;
  body.append(row);
  const made = { row, name, adapter, now, done, share, bar, speed, tokens, trip, bits, drop };
  rows.set(worker.id, made);
  return made;
}

function drawRow(row: Row, worker: WorkerInfo, isAdmin: boolean, isLost: boolean): void {
  setText(row.name, worker.name);
  setText(row.adapter, worker.adapter);
  row.name.title = worker.name;
  row.adapter.title = worker.adapter;
  setData(row.row, 'state', worker.state);
  setText(row.now, WORKER_STATES[worker.state]);
  row.now.title = WORKER_TITLES[worker.state] ?? '';
  setData(row.now, 'state', worker.state);
  const works = worker.state === 'computing' || worker.state === 'evaluating';
  setText(row.done, works && worker.dealt > 0 ? `${worker.done} of ${worker.dealt}` : '');
  setText(row.share, worker.share === null ? '' : percent(worker.share));
  row.bar.style.setProperty('--part', String(worker.share ?? 0));
  setText(row.speed, worker.tokensPerSecond === null ? UNKNOWN : formatCount(worker.tokensPerSecond));
  setText(row.trip, worker.roundTripMs === null ? UNKNOWN : formatMs(worker.roundTripMs));
  setText(row.tokens, formatCount(worker.tokens));
  setText(row.bits, worker.bits || UNKNOWN);
  row.bits.title = worker.exact ? `${worker.bitClass}, as the owner's` : `${worker.bitClass}, not the owner's`;
  setData(row.bits, 'exact', String(worker.exact));
  setHidden(row.drop, !isAdmin);
  const button = row.drop.firstElementChild as HTMLButtonElement | null;
  if (button !== null) {
    setHidden(button, worker.state === 'left' || worker.id === OWNER_ID);
    button.disabled = isLost;
  }
  if (button?.getAttribute('aria-label') !== `Drop ${worker.name}`)
    button?.setAttribute('aria-label', `Drop ${worker.name}`);
}
