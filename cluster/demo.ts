import type { RunHooks, RunResult } from '../src/run/events.js';
import { besides, settle } from '../src/train/option-table.js';
import { DEMO_OPTIONS } from './cluster-options.js';
import { coordinate } from './coordinate.js';
import { LocalWorkers } from './local-workers.js';
import type { DemoRequest } from './request.js';

/**
 * Trains a model with a coordinator in this process and workers on this machine. The workers are child processes, which
 * end with the run and with this process. A worker that crashes is restarted a few times. Resolves and throws as
 * `coordinate` does; also throws LT_CLUSTER_WORKER where no worker stays up. Finished steps are saved then.
 */
export async function demo(request: DemoRequest, hooks: RunHooks = {}): Promise<RunResult> {
  const { workers: count } = settle(DEMO_OPTIONS, request);
  let workers: LocalWorkers | undefined;
  const haste = new AbortController();
  const hurry = () => haste.abort(hooks.haste?.reason);
  if (hooks.haste?.aborted) hurry();
  hooks.haste?.addEventListener('abort', hurry, { once: true });
  const onEvent: RunHooks['onEvent'] = (event) => {
    hooks.onEvent?.(event);
    // The owner has compiled every kernel by now, so the workers find them in the driver's cache.
    if (event.event === 'listening')
      workers = new LocalWorkers({
        count,
        url: event.localUrl,
        adapter: request.adapter,
        software: event.software,
        onExit: (text) => hooks.onEvent?.({ event: 'note', text }),
        onFailure: (why) => haste.abort(why),
      });
  };
  try {
    const local = { ...besides(DEMO_OPTIONS, request), listen: '127.0.0.1:0', plain: true };
    return await coordinate(local, { ...hooks, haste: haste.signal, onEvent });
  } finally {
    hooks.haste?.removeEventListener('abort', hurry);
    await workers?.stop();
  }
}
