import { type Plan, withKeptSums } from '../model/plan.js';
import type { Mismatch } from './checking.js';

/** The seed of the places and inputs of all checks: a start of an adapter must not differ from the one before. */
export const CHECK_SEED = 1;

/** What an adapter computes portable arithmetic with. */
export interface Portability {
  /** The kernels: those asked for, or the same with sums that are kept in order. */
  readonly plan: Plan;
  /** Where the fast kernels differ from the reference, which is why sums are kept. */
  readonly fast?: Mismatch;
  /** Where these kernels differ as well: the adapter does not compute portable arithmetic. */
  readonly mismatch?: Mismatch;
}

/**
 * Makes an engine with the kernels of `plan`. Where these do not give the reference's bits, makes one with kernels that keep
 * the order of their sums (`/kept`: the same bits, slower) instead. `free` frees the first engine's memory.
 */
export async function provenEngine<E>(
  plan: Plan,
  make: (plan: Plan) => Promise<E>,
  check: (engine: E) => Promise<Mismatch | undefined>,
  free: () => void,
): Promise<Portability & { readonly engine: E }> {
  const engine = await make(plan);
  const fast = await check(engine);
  if (fast === undefined) return { engine, plan };
  free();
  const kept = withKeptSums(plan);
  const second = await make(kept);
  return { engine: second, plan: kept, fast, mismatch: await check(second) };
}
