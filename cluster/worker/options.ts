import type { EngineCache } from './engine-cache.js';

/** What a worker tells of itself, for whoever shows it. */
export type WorkerNote =
  | { readonly note: 'welcome'; readonly worker: number; readonly step: number }
  | /** The adapter cannot run the plan's kernels and takes its own, whose bits differ. */ {
      readonly note: 'own-kernels';
    }
  | { readonly note: 'compiling'; readonly done: number; readonly total: number }
  | { readonly note: 'ready'; readonly version: number }
  | {
      readonly note: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Of the step's tokens. */
      readonly share: number;
    };

export interface WorkerOptions {
  /** Outlives this connection. One worker at a time may use it. */
  readonly engines: EngineCache;
  readonly name: string;
  readonly onNote?: (note: WorkerNote) => void;
  /** Milliseconds to sleep after each micro-batch: for tests, a slow worker. */
  readonly drag?: number;
}
