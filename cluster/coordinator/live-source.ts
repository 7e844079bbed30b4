import { emptyTotals } from '../../src/report/worker-totals.js';
import { OWNER_ID, type WorkerState } from '../../src/watch/messages.js';
import type { LiveSource, LiveWorker } from '../../src/watch/server/worker-list.js';
import type { ClusterEngine } from './engine.js';
import { contributorOf } from './members.js';

/** The coordinator's workers for the page. */
export function clusterSource(engine: ClusterEngine): LiveSource {
  const { tally } = engine.credits;
  return {
    bitClass: engine.options.ownClass.name,
    departed: () => {
      const present = [...engine.members.values()].map((member) => {
        const { tokens, workMs } = member.totals;
        return { ...contributorOf(member), tokens, computeMs: workMs };
      });
      return tally.without(present);
    },
    workers: () => {
      const views = new Map(engine.workers.map((view) => [view.worker, view]));
      const workers = [...engine.members.values()].map(
        ({ id, name, adapter, bitClass, doing, connection, totals }): LiveWorker => {
          const view = views.get(id);
          return {
            id,
            name,
            adapter,
            bitClass: view === undefined ? '' : bitClass,
            exact: view === undefined || bitClass === engine.options.ownClass.name,
            state: stateOf(view, doing),
            dealt: doing.dealt,
            done: doing.done,
            // Rounded to half a millisecond, so that small changes are not sent.
            roundTripMs: finiteOrNull(Math.round(2 * connection.stats.roundTripMs) / 2),
            totals,
          };
        },
      );
      return [...workers, ...ownWork(engine)];
    },
    times: () => ({ sumMs: engine.times.sum.milliseconds, updateMs: engine.times.update.milliseconds }),
  };
}

/** The owner's adapter, once it has had a task. Its tokens are reported with those of departed workers. */
function ownWork({ ownWork: { hasBegun, task }, ownerContributor }: ClusterEngine): LiveWorker[] {
  if (!hasBegun) return [];
  const state = task === undefined ? 'waiting' : task.kind === 'evaluate' ? 'evaluating' : 'computing';
  const dealt = task?.batches.size ?? 0;
  return [
    { id: OWNER_ID, ...ownerContributor, exact: true, state, dealt, done: 0, roundTripMs: null, totals: emptyTotals() },
  ];
}

function stateOf(
  view: ClusterEngine['workers'][number] | undefined,
  doing: { readonly kind: string; readonly uploading: boolean },
): WorkerState {
  if (view === undefined) return 'joining';
  if (view.fenced) return 'fenced';
  if (!view.ready) return 'loading';
  if (doing.kind === 'nothing' || view.assigned === 0) return 'waiting';
  if (doing.kind === 'evaluate') return 'evaluating';
  return doing.uploading ? 'uploading' : 'computing';
}

const finiteOrNull = (value: number) => (Number.isFinite(value) ? value : null);
