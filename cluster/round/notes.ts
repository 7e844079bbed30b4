import type { WorkerId } from './events.js';

/** Notes for the log and the metrics. */
export type RoundNote =
  | { readonly note: 'join'; readonly worker: WorkerId; readonly bitClass: string }
  | { readonly note: 'leave'; readonly worker: WorkerId; readonly reason: string }
  | /** A worker of another bit class than the owner's has joined: the run is mixed from here on. */ {
      readonly note: 'mixed';
      readonly worker: WorkerId;
      readonly bitClass: string;
    }
  | { readonly note: 'fence'; readonly worker: WorkerId; readonly reason: string }
  | /** A worker that should wait is dealt work because nobody else can take it. */ {
      readonly note: 'unfence';
      readonly worker: WorkerId;
    }
  | { readonly note: 'refuse'; readonly worker: WorkerId; readonly reason: string }
  | /**
   * A contribution was not used: it is of an earlier step or a revoked assignment, or its micro-batches are already
   * inside.
   */ {
      readonly note: 'stale';
      readonly worker: WorkerId;
      readonly reason: string;
    }
  | { readonly note: 'audit'; readonly worker: WorkerId; readonly bucket: number; readonly reason: string }
  | /** A contribution that was drawn for an audit was used unaudited: nobody else of its bit class is connected. */ {
      readonly note: 'unaudited';
      readonly worker: WorkerId | undefined;
    }
  | /**
   * The first step that uses a contribution of the person without the owner's confirmation. Once per person, and never
   * for persons in `firstSteps`.
   */ {
      readonly note: 'contributed';
      readonly person: string;
      readonly step: number;
    }
  | /** The worker was found wrong, and contributions of its person have been used unconfirmed since step `since`. */ {
      readonly note: 'inexact';
      readonly worker: WorkerId;
      readonly since: number;
      readonly reason: string;
    }
  | /**
   * The current job has waited `waitedMs` for these workers alone (`OWNER` may be one). Repeated at growing intervals.
   */ {
      readonly note: 'awaited';
      readonly workers: readonly WorkerId[];
      readonly waitedMs: number;
    }
  | /** Its work is late and was also dealt to another worker. */ {
      readonly note: 'late';
      readonly worker: WorkerId;
    }
  | /** It refused micro-batches that others computed; this is the first of them. */ {
      readonly note: 'refuted';
      readonly worker: WorkerId;
      readonly microBatch: number;
    }
  | /** A job cannot begin or go on until this changes. Noted once. */ {
      readonly note: 'waiting';
      readonly for: 'workers' | 'min-workers';
    }
  | { readonly note: 'going-on' };
