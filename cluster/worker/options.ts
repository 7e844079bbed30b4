import type { EngineCache } from './engine-cache.js';

/** Progress that a worker reports. */
export type WorkerNote =
  | { readonly note: 'welcome'; readonly worker: number; readonly step: number }
  | /** The adapter cannot run the plan's kernels. The worker uses other kernels, whose bits differ. */ {
      readonly note: 'own-kernels';
    }
  | /** In portable runs: the fast kernels of this adapter are not portable, those that keep their sums in order are. */ {
      readonly note: 'kept-sums';
      /** Where the fast ones differ, one line. */
      readonly difference: string;
    }
  | /** In portable runs: this adapter does not compute portable arithmetic, so its bits differ from the coordinator's. */ {
      readonly note: 'not-portable';
      readonly difference: string;
    }
  | { readonly note: 'compiling'; readonly done: number; readonly total: number }
  | { readonly note: 'ready'; readonly version: number }
  | {
      readonly note: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Fraction of the step's tokens, 0 to 1. */
      readonly share: number;
    };

export interface WorkerOptions {
  /** Outlives the connection. Only one worker at a time may use it. */
  readonly engines: EngineCache;
  readonly name: string;
  readonly onNote?: (note: WorkerNote) => void;
  /** Milliseconds to sleep after each micro-batch, so that tests have a slow worker. */
  readonly drag?: number;
}
