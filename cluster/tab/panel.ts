import { hexFingerprint, type JoinUrl } from '../../src/net/join-url.js';
import { formatCount, formatPercent } from '../../src/report/format.js';
import { printableLine } from '../../src/util/printable.js';
import type { TabState } from './state.js';
import { TabWorker } from './tab-worker.js';
import { CERTIFICATE, describePhase, deviceName, explain, obstacles } from './words.js';

/** Phases in which the device takes no part, and may join (again). */
const IDLE: ReadonlySet<TabState['phase']> = new Set(['left', 'done', 'failed']);

/**
 * Fills `container` with "Join with this device" and, once joined, with what the device does. Classes: `device-state`,
 * `device-problem`, `device-figures`, `device-note`.
 */
export function mountDevicePanel(container: HTMLElement, url: JoinUrl): void {
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
    setText(button, isIn ? 'Leave' : now === undefined ? 'Join with this device' : 'Join again');
    setText(state, now === undefined ? '' : `${describePhase(now)}.`);
    setText(problem, now?.problem === undefined ? '' : explain(now.problem));
    figures.replaceChildren(
      ...(now === undefined ? [] : figuresOf(now, name)).flatMap(([term, value]) => [
        element('dt', '', term),
        element('dd', '', value),
      ]),
    );
    if (now === undefined) note.replaceChildren(...invitation(url));
    else setText(note, isIn ? STAY : '');
    for (const part of [state, problem, figures, note]) part.hidden = !part.hasChildNodes();
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
}

const STAY =
  'Keep this page open. Browsers slow down or stop pages that are hidden for long; the run goes on without them, and this device comes back by itself.';

function invitation({ secure, fingerprint }: JoinUrl): readonly (string | Node)[] {
  const what = "It computes a part of each step on this device's GPU, and needs power and network traffic for it.";
  if (!secure || fingerprint === undefined) return [what];
  const shown = element('code', '');
  // It breaks between bytes.
  for (const byte of hexFingerprint(fingerprint).split(/(?<=:)/)) shown.append(byte, element('wbr', ''));
  return [`${what} ${CERTIFICATE} The link names the fingerprint `, shown, '.'];
}

function figuresOf(state: TabState, name: string): readonly (readonly [string, string])[] {
  const { adapter, tokensPerSecond, share, tokens, ownKernels } = state;
  const rows: (readonly [string, string])[] = [['Name', name]];
  if (adapter) rows.push(['GPU', adapter]);
  if (ownKernels) rows.push(['Kernels', "its own, as it cannot run the coordinator's: the run is mixed"]);
  if (tokensPerSecond !== undefined) rows.push(['Speed', `${formatCount(tokensPerSecond)} tokens/s`]);
  if (share !== undefined) rows.push(['Share of the step', formatPercent(share)]);
  if (tokens > 0) rows.push(['Computed', `${formatCount(tokens)} tokens`]);
  return rows;
}

function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className: string,
  text = '',
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = printableLine(text);
  return made;
}

/** Only what changed, or a screen reader says it again. The text may be another machine's. */
function setText(target: HTMLElement, text: string): void {
  const shown = printableLine(text);
  if (target.textContent !== shown) target.textContent = shown;
}
