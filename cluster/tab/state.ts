import type { JoinUrl } from '../../src/net/join-url.js';
import type { SessionNote } from '../worker/worker-session.js';

/** What the page asks of its Web Worker. */
export type TabRequest =
  | { readonly type: 'join'; readonly url: JoinUrl; readonly name: string }
  | { readonly type: 'leave' }
  /** The page is seen again, or the network is back. */
  | { readonly type: 'wake' };

/** What the Web Worker tells the page. */
export type TabReport =
  | SessionNote
  | { readonly note: 'adapter'; readonly adapter: string; readonly software: boolean }
  | { readonly note: 'ended'; readonly how: 'done' | 'left' }
  | { readonly note: 'failed'; readonly code: string; readonly message: string };

export type Phase = 'starting' | 'connecting' | 'preparing' | 'working' | 'lost' | 'left' | 'done' | 'failed';

/** What there is to say of a tab that works. */
export interface TabState {
  readonly phase: Phase;
  readonly adapter?: string;
  /** Its number among the coordinator's workers. */
  readonly worker?: number;
  /** Kernels that are compiled, of how many. */
  readonly compiled?: { readonly done: number; readonly total: number };
  /** Its adapter cannot run the run's kernels. */
  readonly ownKernels: boolean;
  /** Of its last assignment: step, tokens/s, part of the step's tokens. */
  readonly step?: number;
  readonly tokensPerSecond?: number;
  readonly share?: number;
  /** Computed since it joined first. */
  readonly tokens: number;
  /** Why it is lost or failed. */
  readonly problem?: { readonly code: string; readonly message: string };
}

export const INITIAL: TabState = { phase: 'starting', ownKernels: false, tokens: 0 };

/** The state after a report. */
export function advance(state: TabState, report: TabReport): TabState {
  switch (report.note) {
    case 'adapter':
      return { ...state, phase: 'connecting', adapter: report.adapter };
    case 'joined':
      return { ...state, phase: 'preparing', problem: undefined, ownKernels: false };
    case 'welcome':
      return { ...state, worker: report.worker };
    case 'own-kernels':
      return { ...state, ownKernels: true };
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
