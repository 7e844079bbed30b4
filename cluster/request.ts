import type { TrainRequest } from '../src/run/request.js';
import type { Given } from '../src/train/option-table.js';
import type { CLUSTER_OPTIONS, DEMO_OPTIONS } from './cluster-options.js';

/**
 * Without the options of a process that trains alone: workers choose their stacks, and the coordinator serves the page.
 */
type SharedRun = Omit<TrainRequest, 'watch' | 'stack' | 'profile'>;

/** The request for a run that workers compute. */
export interface CoordinateRequest extends SharedRun, Given<typeof CLUSTER_OPTIONS> {}

/** The request for a run with workers on this machine. It does not use the network. */
export interface DemoRequest extends SharedRun, Given<typeof DEMO_OPTIONS> {}
