import { coordinate } from '../../cluster/coordinate.js';
import type { CoordinateRequest } from '../../cluster/request.js';
import { runCommand } from './run-command.js';

/**
 * `lantrain coordinator`: owns the state and takes the steps, whose gradients workers compute. Returns the exit code.
 */
export function coordinatorCommand(request: CoordinateRequest, json: boolean): Promise<number> {
  return runCommand('coordinator', json, (hooks) => coordinate(request, hooks));
}
