import type { Gpu } from '../gpu/device.js';
import type { Dispatch, DispatchList } from '../gpu/list.js';
import { deriveKey, Stream } from '../util/random.js';
import { CHECKERS } from './checkers.js';
import { type Checker, Checking, Differs, type Mismatch } from './checking.js';
import { Gather } from './gather.js';

/** The pipelines that were checked. Lists that share pipelines share one. */
export type CheckedPipelines = Set<string>;

/** A pipeline: shader, entry, constants and defines. What else a dispatch has changes no arithmetic. */
function pipelineOf({ shader, entry, constants, defines = [] }: Dispatch): string {
  return JSON.stringify([shader, entry, Object.entries(constants).sort(), [...defines].sort()]);
}

function checkerOf({ shader, entry }: Dispatch): Checker {
  const checker = CHECKERS[shader]?.[entry];
  if (checker === undefined) throw new Error(`no check of portable arithmetic knows the kernel ${shader}.${entry}`);
  return checker;
}

/**
 * Whether products read what this dispatch rewrites in place and take it as rounded to 12 bits: the gradient of the logits. It
 * must run before them, also where it needs no check itself.
 */
function roundsInPlace({ shader, entry }: Dispatch): boolean {
  return shader === 'cross_entropy' && entry === 'gradient';
}

/** The dispatches of `list` with pipelines that are not in `checked`, one each: indices by pipeline. */
function unchecked(list: DispatchList, checked: CheckedPipelines): ReadonlyMap<string, number> {
  const firsts = new Map<string, number>();
  for (const [i, dispatch] of list.dispatches.entries()) {
    const pipeline = pipelineOf(dispatch);
    if (!checked.has(pipeline) && !firsts.has(pipeline)) firsts.set(pipeline, i);
  }
  return firsts;
}

/** The buffers that `checkList` binds. */
export function buffersToCheck(list: DispatchList, checked: CheckedPipelines): ReadonlySet<GPUBuffer> {
  const dispatches = [...unchecked(list, checked).values()].map((i) => list.dispatches[i]);
  return new Set(dispatches.flatMap(({ bindings }) => Object.values(bindings).map(({ buffer }) => buffer)));
}

/**
 * Holds every pipeline of `list` that is not in `checked` against the reference, at places that `seed` draws. Only the first
 * dispatch of each runs, on what its buffers hold. Returns the first mismatch. Throws where there is no check for a kernel.
 */
export async function checkList(
  gpu: Gpu,
  list: DispatchList,
  seed: number,
  checked: CheckedPipelines,
): Promise<Mismatch | undefined> {
  const gather = new Gather(gpu);
  try {
    const pending = new Map([...unchecked(list, checked)].map(([pipeline, i]) => [i, pipeline]));
    const last = Math.max(-1, ...pending.keys());
    for (const [i, dispatch] of list.dispatches.entries()) {
      const pipeline = pending.get(i);
      if (pipeline === undefined) {
        if (i < last && roundsInPlace(dispatch)) list.submit(gpu, i, i + 1);
        continue;
      }
      const run = () => list.submit(gpu, i, i + 1);
      await checkerOf(dispatch)(new Checking(gpu, dispatch, run, gather, deriveKey(seed, Stream.probe, 4, i)));
      checked.add(pipeline);
    }
    return undefined;
  } catch (error) {
    if (error instanceof Differs) return error.mismatch;
    throw error;
  } finally {
    gather.release();
  }
}
