import type { TokenData } from '../data/token-arrays.js';
import type { Given } from '../train/option-table.js';
import type { TrainOptions } from '../train/options.js';
import type { RUN_OPTIONS } from './run-options.js';

export type { TokenArray, TokenData } from '../data/token-arrays.js';

/**
 * The request for a run. Options are named like the command line's flags, in camelCase. An option that is left out has
 * the preset's value, or the resumed run's.
 */
export interface TrainRequest
  extends Partial<Omit<TrainOptions, 'data'>>,
    Omit<Given<typeof RUN_OPTIONS>, 'config' | 'json' | 'watch'> {
  /**
   * A path or a name as `--data` takes it, or token ids. Token ids are not stored: pass the same ones again to resume
   * the run.
   */
  readonly data?: string | TokenData;
  /** Serves a page that shows the run at `HOST:PORT`; true: at 127.0.0.1, on a free port. Off by default. */
  readonly watch?: string | boolean;
}
