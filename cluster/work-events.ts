/** Characters of a worker's name that fit into a list of workers. */
export const LONGEST_NAME = 64;

/** A coordinator that answered on this network. Anybody on the network can answer. */
export interface FoundCoordinator {
  readonly name: string;
  /** The version of lantrain there. */
  readonly version: string;
  /** The join URL, without a token. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Whether it takes connections without TLS. */
  readonly plain: boolean;
}

/** The events of a worker, in this order. It joins again when the connection breaks. */
export type WorkEvent =
  /** It looks for coordinators on this network, because no URL was given. */
  | { readonly event: 'search' }
  | { readonly event: 'found'; readonly coordinators: readonly FoundCoordinator[] }
  /** The adapter that it computes on. */
  | { readonly event: 'adapter'; readonly adapter: string; readonly software: boolean }
  /** The coordinator has accepted it. */
  | { readonly event: 'joined'; readonly host: string; readonly port: number }
  /** It has the run's configuration: its number, and the run's current step. */
  | { readonly event: 'welcome'; readonly worker: number; readonly step: number }
  /** The adapter cannot run the plan's kernels. It uses its own, whose bits differ. */
  | { readonly event: 'own-kernels' }
  /** In portable runs: the fast kernels of this adapter are not portable. It uses slower ones, which are. */
  | { readonly event: 'kept-sums'; readonly difference: string }
  /** In portable runs: this adapter does not compute portable arithmetic. Its bits differ from the coordinator's. */
  | { readonly event: 'not-portable'; readonly difference: string }
  | { readonly event: 'compiling'; readonly done: number; readonly total: number }
  /** It has the weights after `step` and waits for an assignment of the next step. */
  | { readonly event: 'waiting'; readonly step: number }
  /** It has computed an assignment. */
  | {
      readonly event: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Its fraction of the step's tokens, 0 to 1. */
      readonly share: number;
    }
  /** The connection broke, and it retries. Told once, not at every attempt. */
  | { readonly event: 'lost'; readonly reason: string }
  | ({ readonly event: 'end' } & WorkResult);

/** The result of a worker. */
export interface WorkResult {
  /** `done`: the run is done. `left`: the signal was aborted. */
  readonly how: 'done' | 'left';
  /** Tokens that it computed. */
  readonly tokens: number;
}
