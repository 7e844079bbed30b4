import type { TokenData } from '../data/token-arrays.js';
import type { PresetName, TrainOptions } from '../train/options.js';

export type { TokenArray, TokenData } from '../data/token-arrays.js';

/**
 * What a run is asked for. Options have the names of the command line's flags in camelCase; what is left out is the
 * preset's, or the saved run's.
 */
export interface TrainRequest extends Partial<Omit<TrainOptions, 'data'>> {
  /** A path or a name as `--data` takes it, or token ids. A run of token ids is given them again when it goes on. */
  readonly data?: string | TokenData;
  /** `tiny` where neither it nor `init` or `resume` is given. */
  readonly preset?: PresetName;
  /** A Hugging Face GPT-2 folder to begin with. */
  readonly init?: string;
  /** The run's folder; the first free `runs/<preset>-<n>` where it is left out. */
  readonly out?: string;
  /** The folder of a run to go on with. */
  readonly resume?: string;
  /** The GPU whose name contains this. */
  readonly adapter?: string;
  /** A JSON file, or `auto` for the plan of this adapter. */
  readonly plan?: string;
  /** True: the fastest kernels, whatever their bits; false: those of the plan; undefined: the fastest of the same bits. */
  readonly tune?: boolean;
  /** Where a page shows the run, `HOST:PORT`; true: on this machine, at a free port. */
  readonly watch?: string | boolean;
  /** Times every kernel at the end, see `ProfileEvent`. */
  readonly profile?: boolean;
}
