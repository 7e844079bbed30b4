import type { TrainRequest } from '../src/run/request.js';

/** What a run that workers compute is asked for. Workers choose for themselves how much they compute at once. */
export interface CoordinateRequest extends Omit<TrainRequest, 'watch' | 'stack' | 'profile'> {
  /** Where workers join and the page is, `HOST:PORT`; every address, port 7070 or the next free one where it is left out. */
  readonly listen?: string;
  /** Workers that must be there before the first step; 1 by default. */
  readonly minWorkers?: number;
  /** Refuses workers that compute other bits than this machine's adapter. */
  readonly exact?: boolean;
  /** The share of what workers send that is computed again to check it, 0 to 1. */
  readonly audit?: number;
  /** ws without TLS, also to other machines. */
  readonly plain?: boolean;
  /** A certificate of one's own, PEM, and the file of its key. */
  readonly cert?: string;
  readonly key?: string;
}

/** The most workers that one machine is given. */
export const MOST_LOCAL_WORKERS = 64;

/** What a run with workers of this machine is asked for. Nothing of it leaves the machine. */
export interface DemoRequest
  extends Omit<CoordinateRequest, 'listen' | 'minWorkers' | 'exact' | 'audit' | 'plain' | 'cert' | 'key'> {
  /** Workers to start, each a process of its own; 2 by default. */
  readonly workers?: number;
}
