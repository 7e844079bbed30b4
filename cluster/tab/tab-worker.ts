import type { JoinUrl } from '../../src/net/join-url.js';
import { advance, INITIAL, type TabReport, type TabRequest, type TabState } from './state.js';

/** URL of the bundle of `web-worker.ts` on the page's server. */
const SCRIPT = '/tab-worker.js';
/** Time for a goodbye before the Web Worker is terminated. */
const LEAVE_MS = 3_000;

/**
 * The page's side of a tab that computes: starts the Web Worker, keeps the screen on, and leaves when the page closes.
 */
export class TabWorker {
  #state = INITIAL;
  #worker: Worker | undefined;
  #screen: WakeLockSentinel | undefined;
  readonly #listeners = new AbortController();

  constructor(
    url: JoinUrl,
    name: string,
    private readonly onState: (state: TabState) => void,
  ) {
    this.#worker = new Worker(SCRIPT, { type: 'module' });
    this.#worker.onmessage = ({ data }: MessageEvent<TabReport>) => this.#advance(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const why = event.message || 'its script could not be loaded; reload the page';
      this.#advance({ note: 'failed', code: 'LT_CLUSTER_WORKER', message: `the worker failed: ${why}` });
    };
    this.#ask({ type: 'join', url, name });
    const { signal } = this.#listeners;
    document.addEventListener('visibilitychange', () => this.#seen(), { signal });
    addEventListener('online', () => this.#ask({ type: 'wake' }), { signal });
    addEventListener('pagehide', () => this.leave(), { signal });
    this.#seen();
  }

  get state(): TabState {
    return this.#state;
  }

  leave(): void {
    this.#ask({ type: 'leave' });
    setTimeout(() => this.#end(), LEAVE_MS);
  }

  #ask(request: TabRequest): void {
    this.#worker?.postMessage(request);
  }

  #advance(report: TabReport): void {
    if (this.#worker === undefined) return;
    this.#state = advance(this.#state, report);
    if (report.note === 'ended' || report.note === 'failed') this.#end();
    this.onState(this.#state);
  }

  /** A device that wakes up reconnects at once. Its screen stays on while the page is visible. */
  #seen(): void {
    if (document.visibilityState !== 'visible') return;
    this.#ask({ type: 'wake' });
    void this.#keepScreenOn();
  }

  /** Only if the browser supports it. The browser releases the lock when the page is hidden. */
  async #keepScreenOn(): Promise<void> {
    if (this.#screen?.released === false) return;
    try {
      const screen = await navigator.wakeLock?.request('screen');
      if (this.#worker === undefined) await screen?.release();
      else this.#screen = screen;
    } catch {
      // A low battery or the user's settings forbid it. The screen then turns off as usual.
    }
  }

  #end(): void {
    if (this.#worker === undefined) return;
    this.#worker.terminate();
    this.#worker = undefined;
    this.#listeners.abort();
    void this.#screen?.release().catch(() => {});
    if (this.#state.phase === 'failed' || this.#state.phase === 'done') return;
    this.#state = { ...this.#state, phase: 'left' };
    this.onState(this.#state);
  }
}
