import type { TrainRequest } from '../src/run/request.js';
import type { Given } from '../src/train/option-table.js';
import type { CLUSTER_OPTIONS, DEMO_OPTIONS } from './cluster-options.js';

/** A run whose workers choose for themselves how much they compute at once; its page is the coordinator's own. */
type SharedRun = Omit<TrainRequest, 'watch' | 'stack' | 'profile'>;

/** What a run that workers compute is asked for. */
export interface CoordinateRequest extends SharedRun, Given<typeof CLUSTER_OPTIONS> {}

/** What a run with workers of this machine is asked for. Nothing of it leaves the machine. */
export interface DemoRequest extends SharedRun, Given<typeof DEMO_OPTIONS> {}
