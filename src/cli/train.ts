import { train } from '../../cluster/train.js';
import type { TrainRequest } from '../run/request.js';
import { runCommand } from './run-command.js';

/** `lantrain train`: this process trains alone. Returns the exit code. */
export function trainCommand(request: TrainRequest, json: boolean): Promise<number> {
  return runCommand('train', json, (hooks) => train(request, hooks));
}
