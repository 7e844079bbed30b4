import type { JoinUrl } from '../../src/net/join-url.js';
import type { SessionNote } from '../worker/worker-session.js';

/** A request of the page to its Web Worker. */
export type TabRequest =
  | { readonly type: 'join'; readonly url: JoinUrl; readonly name: string }
  | { readonly type: 'leave' }
  /** The page is visible again, or the network is back. */
  | { readonly type: 'wake' };

/** A report of the Web Worker to the page. */
export type TabReport =
  | SessionNote
  | { readonly note: 'adapter'; readonly adapter: string; readonly software: boolean }
  | { readonly note: 'ended'; readonly how: 'done' | 'left' }
  | { readonly note: 'failed'; readonly code: string; readonly message: string };

export type Phase = 'starting' | 'connecting' | 'preparing' | 'working' | 'lost' | 'left' | 'done' | 'failed';

/** The state of a tab that computes, as the panel shows it. */
export interface TabState {
  readonly phase: Phase;
  readonly adapter?: string;
  /** The worker's number at the coordinator. */
  readonly worker?: number;
  /** Progress of compiling kernels. */
  readonly compiled?: { readonly done: number; readonly total: number };
  /** The adapter cannot run the run's kernels, so the tab uses others. */
  readonly ownKernels: boolean;
  /** Where the adapter differs from portable arithmetic, in a portable run. */
  readonly difference?: string;
  /** The last assignment: step, tokens per second, fraction of the step's tokens. */
  readonly step?: number;
  readonly tokensPerSecond?: number;
  readonly share?: number;
  /** Tokens computed since the first join. */
  readonly tokens: number;
  /** Why the connection was lost or the worker failed. */
  readonly problem?: { readonly code: string; readonly message: string };
}

export const INITIAL: TabState = { phase: 'starting', ownKernels: false, tokens: 0 };

/** The state after a report. */
export function advance(state: TabState, report: TabReport): TabState {
  switch (report.note) {
    case 'adapter':
      return { ...state, phase: 'connecting', adapter: report.adapter };
    case 'joined':
      return { ...state, phase: 'preparing', problem: undefined, ownKernels: false, difference: undefined };
    case 'welcome':
      return { ...state, worker: report.worker };
    case 'own-kernels':
      return { ...state, ownKernels: true };
    case 'not-portable':
      return { ...state, difference: report.difference };
    case 'kept-sums':
      return state;
    case 'compiling':
      return { ...state, compiled: { done: report.done, total: report.total } };
    case 'ready':
      return { ...state, phase: 'working' };
    case 'computed': {
      const { step, share, tokens, milliseconds } = report;
      const tokensPerSecond = milliseconds > 0 ? (1000 * tokens) / milliseconds : undefined;
      return { ...state, phase: 'working', step, share, tokensPerSecond, tokens: state.tokens + tokens };
    }
    case 'lost':
      return { ...state, phase: 'lost', problem: { code: 'LT_CLUSTER_CONNECT', message: report.reason } };
    case 'ended':
      return { ...state, phase: report.how, problem: undefined };
    case 'failed':
      return { ...state, phase: 'failed', problem: { code: report.code, message: report.message } };
  }
}
