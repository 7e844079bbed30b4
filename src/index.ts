/**
 * The public API: runs as functions. Nothing here prints, ends the process or listens to its signals. Several runs in one
 * process, one after another or at once, give the digests that they would have alone. The first of them puts WebGPU's names
 * among the process's globals and wraps `setImmediate`, see node/dawn.ts.
 */
export { coordinate } from '../cluster/coordinate.js';
export type { CoordinateRequest } from '../cluster/request.js';
export { train } from '../cluster/train.js';
export { type ErrorCode, LantrainError } from './errors.js';
export type * from './run/events.js';
export type { TokenArray, TokenData, TrainRequest } from './run/request.js';
