/**
 * The dedicated Web Worker of a tab that computes: device, connection and worker run here, off the page's thread. The
 * page starts it with `join` and listens to its reports.
 */
import { version } from '../../package.json';
import { LantrainError } from '../../src/errors.js';
import { adapterTitle, Gpu } from '../../src/gpu/device.js';
import { withoutDriversWords } from '../../src/gpu/driver-words.js';
import type { JoinUrl } from '../../src/net/join-url.js';
import { EngineCache } from '../worker/engine-cache.js';
import { WorkerSession } from '../worker/worker-session.js';
import { connectFromBrowser } from './browser-client.js';
import type { TabReport, TabRequest } from './state.js';

/** A lost device is opened again, unless it was lost sooner than this. */
const LEAST_LIFE_MS = 30_000;

const page = self as unknown as {
  onmessage: (event: MessageEvent<TabRequest>) => void;
  postMessage(report: TabReport): void;
};

let session: WorkerSession | undefined;
let leaving = false;

page.onmessage = ({ data }) => {
  if (data.type === 'join') void work(data.url, data.name);
  else if (data.type === 'wake') session?.wake();
  else {
    leaving = true;
    session?.leave();
  }
};

async function work(url: JoinUrl, name: string): Promise<void> {
  try {
    page.postMessage({ note: 'ended', how: await stay(url, name) });
  } catch (error) {
    const code = error instanceof LantrainError ? error.code : 'LT_CLUSTER_WORKER';
    // The browser's console gets the whole error.
    console.error(error);
    const message = error instanceof LantrainError ? withoutDriversWords(error) : String(error);
    page.postMessage({ note: 'failed', code, message });
  }
}

async function stay(url: JoinUrl, name: string): Promise<'done' | 'left'> {
  for (;;) {
    const openedAt = performance.now();
    const gpu = await openGpu();
    const { adapter } = gpu;
    page.postMessage({ note: 'adapter', adapter: adapterTitle(adapter), software: adapter.software });
    session = new WorkerSession({
      connect: () => connectFromBrowser(url, version),
      engines: new EngineCache(gpu, undefined, { recompute: 'if-needed', availableBytes }),
      name,
      patienceMs: 0,
      onNote: (note) => page.postMessage(note),
    });
    if (leaving) return 'left';
    try {
      return await session.run();
    } catch (error) {
      const isLost = error instanceof LantrainError && error.code === 'LT_GPU_LOST';
      if (!isLost || performance.now() - openedAt < LEAST_LIFE_MS) throw error;
      page.postMessage({ note: 'lost', reason: withoutDriversWords(error) });
    } finally {
      gpu.device.destroy();
    }
  }
}

/**
 * Upper bound of a tab's memory in bytes: half of the device's memory. Browsers round that figure and cap it at 8 GB
 * (https://www.w3.org/TR/device-memory/). Undefined at the cap or without a figure. No browser reports the memory of a
 * discrete GPU.
 */
function availableBytes(): number | undefined {
  const { deviceMemory } = navigator as { readonly deviceMemory?: number };
  return deviceMemory === undefined || deviceMemory >= 8 ? undefined : (deviceMemory / 2) * 2 ** 30;
}

/** Throws LT_GPU_NONE. */
async function openGpu(): Promise<Gpu> {
  if (navigator.gpu === undefined) throw new LantrainError('LT_GPU_NONE', 'this browser has no WebGPU here');
  return Gpu.open(navigator.gpu);
}
