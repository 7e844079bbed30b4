import type { ClusterEngine } from '../coordinator.js';
import type { WorkerTally } from '../worker-tally.js';
import type { WorkerState } from './messages.js';
import type { LiveSource } from './worker-list.js';

/** The workers of a coordinator, as the page shows them. */
export function clusterSource(engine: ClusterEngine, tally: WorkerTally): LiveSource {
  return {
    bitClass: engine.options.ownerBitClass,
    departed: () => tally.departed,
    workers: () => {
      const views = new Map(engine.workers.map((view) => [view.worker, view]));
      return [...engine.members.values()].map(({ id, name, adapter, doing, connection, totals }) => {
        const view = views.get(id);
        return {
          id,
          name,
          adapter,
          bitClass: view?.bitClass ?? '',
          exact: view === undefined || view.bitClass === engine.options.ownerBitClass,
          state: stateOf(view, doing),
          dealt: doing.dealt,
          done: doing.done,
          // Half a millisecond more or less is no news.
          roundTripMs: finiteOrNull(Math.round(2 * connection.stats.roundTripMs) / 2),
          totals,
        };
      });
    },
    times: () => ({ sumMs: engine.times.sum.milliseconds, updateMs: engine.times.update.milliseconds }),
  };
}

function stateOf(
  view: ClusterEngine['workers'][number] | undefined,
  doing: { readonly kind: string; readonly uploading: boolean },
): WorkerState {
  if (view === undefined) return 'joining';
  if (view.fenced) return 'fenced';
  if (!view.ready) return 'loading';
  if (doing.kind === 'nothing' || view.share === 0) return 'waiting';
  if (doing.kind === 'evaluate') return 'evaluating';
  return doing.uploading ? 'uploading' : 'computing';
}

const finiteOrNull = (value: number) => (Number.isFinite(value) ? value : null);
