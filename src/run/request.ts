import type { TokenData } from '../data/token-arrays.js';
import type { Given } from '../train/option-table.js';
import type { TrainOptions } from '../train/options.js';
import type { RUN_OPTIONS } from './run-options.js';

export type { TokenArray, TokenData } from '../data/token-arrays.js';

/**
 * What a run is asked for. Options have the names of the command line's flags in camelCase; what is left out is the
 * preset's, or the saved run's.
 */
export interface TrainRequest
  extends Partial<Omit<TrainOptions, 'data'>>,
    Omit<Given<typeof RUN_OPTIONS>, 'config' | 'json' | 'watch'> {
  /** A path or a name as `--data` takes it, or token ids. A run of token ids is given them again when it goes on. */
  readonly data?: string | TokenData;
  /** Where a page shows the run, `HOST:PORT`; true: on this machine, at a free port. */
  readonly watch?: string | boolean;
}
