import type { TrainRequest } from '../src/run/request.js';
import type { Given } from '../src/train/option-table.js';
import type { CLUSTER_OPTIONS, DEMO_OPTIONS } from './cluster-options.js';

/** A run with workers: they choose their own stack, and the coordinator serves the page. */
type SharedRun = Omit<TrainRequest, 'watch' | 'stack' | 'profile'>;

/** Request for a run that workers compute. */
export interface CoordinateRequest extends SharedRun, Given<typeof CLUSTER_OPTIONS> {}

/** Request for a run with workers on this machine. Nothing leaves the machine. */
export interface DemoRequest extends SharedRun, Given<typeof DEMO_OPTIONS> {}
