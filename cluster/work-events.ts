/** Characters of a worker's name that fit into a list of workers. */
export const LONGEST_NAME = 64;

/** A coordinator that answered on this network. The answer is not authenticated: anybody may send one. */
export interface FoundCoordinator {
  readonly name: string;
  /** lantrain's version there. */
  readonly version: string;
  /** The join URL, without a token. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** It accepts connections without TLS. */
  readonly plain: boolean;
}

/** What a worker reports, in this order. After a lost connection it joins again. */
export type WorkEvent =
  /** No URL is given, so it searches this network for coordinators. */
  | { readonly event: 'search' }
  | { readonly event: 'found'; readonly coordinators: readonly FoundCoordinator[] }
  /** The adapter that it will compute on. */
  | { readonly event: 'adapter'; readonly adapter: string; readonly software: boolean }
  /** The coordinator has admitted it. */
  | { readonly event: 'joined'; readonly host: string; readonly port: number }
  /** The coordinator has told it its number and the current step. */
  | { readonly event: 'welcome'; readonly worker: number; readonly step: number }
  /** The adapter cannot run the plan's kernels. The worker uses other kernels, whose bits differ. */
  | { readonly event: 'own-kernels' }
  | { readonly event: 'compiling'; readonly done: number; readonly total: number }
  /** The weights after `step` are loaded: it waits for an assignment of the next step. */
  | { readonly event: 'waiting'; readonly step: number }
  /** It has computed an assignment. */
  | {
      readonly event: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Fraction of the step's tokens, 0 to 1. */
      readonly share: number;
    }
  /** The connection was lost and it tries again. Reported once, not at every try. */
  | { readonly event: 'lost'; readonly reason: string }
  | ({ readonly event: 'end' } & WorkResult);

/** How a worker's session with a run ended. */
export interface WorkResult {
  /** `done`: the run is done; `left`: it was told to leave. */
  readonly how: 'done' | 'left';
  /** Tokens that it computed. */
  readonly tokens: number;
}
