/** What a list of workers has room for: characters of a worker's name. */
export const LONGEST_NAME = 64;

/** A coordinator that answered on this network. Anybody may say that there is one. */
export interface FoundCoordinator {
  readonly name: string;
  /** lantrain's version there. */
  readonly version: string;
  /** The join URL, without a token. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** It takes connections without TLS. */
  readonly plain: boolean;
}

/** What a worker tells, in this order; it joins again where the line breaks. */
export type WorkEvent =
  /** No URL is given: it looks for coordinators on this network. */
  | { readonly event: 'search' }
  | { readonly event: 'found'; readonly coordinators: readonly FoundCoordinator[] }
  /** What it will compute on. */
  | { readonly event: 'adapter'; readonly adapter: string; readonly software: boolean }
  /** The coordinator has let it in. */
  | { readonly event: 'joined'; readonly host: string; readonly port: number }
  /** It learns what to compute: its number, and the step that the run is at. */
  | { readonly event: 'welcome'; readonly worker: number; readonly step: number }
  /** The adapter cannot run the plan's kernels and takes its own, whose bits differ. */
  | { readonly event: 'own-kernels' }
  | { readonly event: 'compiling'; readonly done: number; readonly total: number }
  /** The weights after `step` are in place: it waits for a part of the next step. */
  | { readonly event: 'waiting'; readonly step: number }
  /** It has computed a part of a step. */
  | {
      readonly event: 'computed';
      readonly step: number;
      readonly tokens: number;
      readonly milliseconds: number;
      /** Of the step's tokens, 0 to 1. */
      readonly share: number;
    }
  /** The line broke; it tries again. Told once, not at every try. */
  | { readonly event: 'lost'; readonly reason: string }
  | ({ readonly event: 'end' } & WorkResult);

/** How a worker's stay with a run has ended. */
export interface WorkResult {
  /** `done`: the run is done; `left`: it was told to leave. */
  readonly how: 'done' | 'left';
  /** Tokens that it has computed. */
  readonly tokens: number;
}
