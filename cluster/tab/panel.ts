import { hexFingerprint, type JoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { formatCount, formatPercent } from '../../src/report/format.js';
import { printableLine } from '../../src/util/printable.js';
import type { MountDevicePanel } from '../../src/watch/page/device-panel.js';
import { create, setText } from '../../src/watch/page/dom.js';
import { CERTIFICATE } from '../../src/watch/page/secure-context.js';
import type { TabState } from './state.js';
import { TabWorker } from './tab-worker.js';
import { describePhase, deviceName, explain, obstacles } from './words.js';

/** Phases in which the device does not compute and may join (again). */
const IDLE: ReadonlySet<TabState['phase']> = new Set(['left', 'done', 'failed']);

/** The panel's CSS classes: `device-state`, `device-problem`, `device-figures`, `device-note`. */
export const mountDevicePanel: MountDevicePanel = (container, joinUrl) => {
  const url = parseJoinUrl(joinUrl);
  const hasWebGpu = navigator.gpu !== undefined;
  const reasons = obstacles({ isSecureContext, hasWebGpu, host: location.host });
  if (reasons.length > 0) {
    container.replaceChildren(...reasons.map((text) => element('p', 'device-problem', text)));
    return;
  }
  const name = deviceName(navigator.userAgent, Math.random());
  const button = element('button', 'device-join', 'Join with this device');
  button.type = 'button';
  const state = element('p', 'device-state');
  state.setAttribute('role', 'status');
  const problem = element('p', 'device-problem');
  problem.setAttribute('role', 'alert');
  const figures = element('dl', 'device-figures');
  const note = element('p', 'device-note');
  container.replaceChildren(button, state, problem, figures, note);

  let tab: TabWorker | undefined;
  const show = (now: TabState | undefined) => {
    const isIn = now !== undefined && !IDLE.has(now.phase);
    say(button, isIn ? 'Leave' : now === undefined ? 'Join with this device' : 'Join again');
    say(state, now === undefined ? '' : `${describePhase(now)}.`);
    say(problem, now?.problem === undefined ? '' : explain(now.problem));
    figures.replaceChildren(
      ...(now === undefined ? [] : figuresOf(now, name)).flatMap(([term, value]) => [
        element('dt', '', term),
        element('dd', '', value),
      ]),
    );
    if (now === undefined) note.replaceChildren(...invitation(url));
    else say(note, isIn ? STAY : '');
    for (const child of [state, problem, figures, note]) child.hidden = !child.hasChildNodes();
    container.dataset.phase = now?.phase ?? 'idle';
  };
  button.addEventListener('click', () => {
    if (tab !== undefined && !IDLE.has(tab.state.phase)) tab.leave();
    else {
      tab = new TabWorker(url, name, show);
      show(tab.state);
    }
  });
  show(undefined);
};

const STAY =
  'Keep this page open. Browsers slow down or stop pages that are hidden for long; the run goes on without them, and this device comes back by itself.';

function invitation({ secure, fingerprint }: JoinUrl): readonly (string | Node)[] {
  const what = "It computes a part of each step on this device's GPU, and needs power and network traffic for it.";
  if (!secure || fingerprint === undefined) return [what];
  const shown = element('code', '');
  // Allows line breaks between bytes.
  for (const byte of hexFingerprint(fingerprint).split(/(?<=:)/)) shown.append(byte, element('wbr', ''));
  return [`${what} ${CERTIFICATE} The link names the fingerprint `, shown, '.'];
}

function figuresOf(state: TabState, name: string): readonly (readonly [string, string])[] {
  const { adapter, tokensPerSecond, share, tokens, ownKernels, difference } = state;
  const rows: (readonly [string, string])[] = [['Name', name]];
  if (adapter) rows.push(['GPU', adapter]);
  if (difference !== undefined) rows.push(['Arithmetic', `not portable, so the run is mixed: ${difference}`]);
  if (ownKernels) rows.push(['Kernels', "its own, as it cannot run the coordinator's: the run is mixed"]);
  if (tokensPerSecond !== undefined) rows.push(['Speed', `${formatCount(tokensPerSecond)} tokens/s`]);
  if (share !== undefined) rows.push(['Share of the step', formatPercent(share)]);
  if (tokens > 0) rows.push(['Computed', `${formatCount(tokens)} tokens`]);
  return rows;
}

/** An empty text adds no text node. The text is made printable: it may come from another machine. */
function element<K extends keyof HTMLElementTagNameMap>(tag: K, className: string, text = '') {
  return create(tag, className, ...(text === '' ? [] : [printableLine(text)]));
}

function say(target: HTMLElement, text: string): void {
  setText(target, printableLine(text));
}
