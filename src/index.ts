/** The public API: runs as functions. Nothing here prints, ends the process or listens to its signals. */
export { coordinate } from '../cluster/coordinate.js';
export type { CoordinateRequest } from '../cluster/request.js';
export { train } from '../cluster/train.js';
export { type ErrorCode, LantrainError } from './errors.js';
export type * from './run/events.js';
export type { TokenArray, TokenData, TrainRequest } from './run/request.js';
