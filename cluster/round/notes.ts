import type { WorkerId } from './events.js';

/** What the log and the metrics are told. */
export type RoundNote =
  | { readonly note: 'join'; readonly worker: WorkerId; readonly bitClass: string }
  | { readonly note: 'leave'; readonly worker: WorkerId; readonly reason: string }
  | /** A bit class other than the owner's has joined: the run is mixed from here on. */ {
      readonly note: 'mixed';
      readonly worker: WorkerId;
      readonly bitClass: string;
    }
  | { readonly note: 'fence'; readonly worker: WorkerId; readonly reason: string }
  | /** A worker that should wait is dealt work all the same, since nobody else can have it. */ {
      readonly note: 'unfence';
      readonly worker: WorkerId;
    }
  | { readonly note: 'refuse'; readonly worker: WorkerId; readonly reason: string }
  | /** A contribution that was not used: of an earlier step, a revoked assignment, or inside already. */ {
      readonly note: 'stale';
      readonly worker: WorkerId;
      readonly reason: string;
    }
  | { readonly note: 'audit'; readonly worker: WorkerId; readonly bucket: number; readonly reason: string }
  | /** A chosen contribution was used unaudited: nobody else of its bit class is there. */ {
      readonly note: 'unaudited';
      readonly worker: WorkerId | undefined;
    }
  | /**
   * The first step in which something that the person contributed is used without the owner's word for it. Once a person,
   * and not if `firstSteps` has it.
   */ {
      readonly note: 'contributed';
      readonly person: string;
      readonly step: number;
    }
  | /** What the worker's person contributed from step `since` on was used unaudited, and the worker is found wrong. */ {
      readonly note: 'inexact';
      readonly worker: WorkerId;
      readonly since: number;
      readonly reason: string;
    }
  | /** The job in hand waits for these workers alone (`OWNER` may be one), for `waitedMs` by now. Said again at growing intervals. */ {
      readonly note: 'awaited';
      readonly workers: readonly WorkerId[];
      readonly waitedMs: number;
    }
  | /** Its work is late and was dealt to another worker as well. */ {
      readonly note: 'late';
      readonly worker: WorkerId;
    }
  | /** It refused micro-batches, of which this is the first, that others computed. */ {
      readonly note: 'refuted';
      readonly worker: WorkerId;
      readonly microBatch: number;
    }
  | /** A job cannot go on (or begin) until this changes; said once. */ {
      readonly note: 'waiting';
      readonly for: 'workers' | 'min-workers';
    }
  | { readonly note: 'going-on' };
