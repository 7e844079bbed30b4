/**
 * The public API: runs as functions. Nothing here prints, ends the process or listens to its signals. Several runs can
 * share a process, one after another or at once; each gets the digest that it would have alone. The first run that
 * opens an adapter adds WebGPU's names to the process's globals and wraps `setImmediate` (node/dawn.ts).
 */
export { coordinate } from '../cluster/coordinate.js';
export { demo } from '../cluster/demo.js';
export type { CoordinateRequest, DemoRequest } from '../cluster/request.js';
export { train } from '../cluster/train.js';
export { type WorkHooks, type WorkOptions, work } from '../cluster/work.js';
export type { FoundCoordinator, WorkEvent, WorkResult } from '../cluster/work-events.js';
export { type ErrorCode, LantrainError } from './errors.js';
export type * from './run/events.js';
export { type ExportOptions, type ExportResult, exportModel } from './run/export-model.js';
export { generate } from './run/generate.js';
export type { GenerateOptions } from './run/generate-options.js';
export { openRun, type Run, type RunStanding, type SavedCheckpoint, type SavedConfig } from './run/open-run.js';
export type { ReadHooks } from './run/read-hooks.js';
export type { TokenArray, TokenData, TrainRequest } from './run/request.js';
