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
 * Runs `list` and holds every pipeline of it that is not in `checked` against the reference, at places that `seed` draws.
 * Returns the first mismatch; the rest of the list does not run then. Throws where there is no check for a kernel.
 */
export async function checkList(
  gpu: Gpu,
  list: DispatchList,
  seed: number,
  checked: CheckedPipelines,
): Promise<Mismatch | undefined> {
  const firsts = new Map<string, number>();
  for (const [i, dispatch] of list.dispatches.entries()) {
    const pipeline = pipelineOf(dispatch);
    if (!checked.has(pipeline) && !firsts.has(pipeline)) firsts.set(pipeline, i);
  }
  const gather = new Gather(gpu);
  try {
    let from = 0;
    for (const [pipeline, i] of firsts) {
      if (i > from) list.submit(gpu, from, i);
      const dispatch = list.dispatches[i];
      const run = () => list.submit(gpu, i, i + 1);
      await checkerOf(dispatch)(new Checking(gpu, dispatch, run, gather, deriveKey(seed, Stream.probe, 4, i)));
      checked.add(pipeline);
      from = i + 1;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Differs) return error.mismatch;
    throw error;
  } finally {
    gather.release();
  }
}
