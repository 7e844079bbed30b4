import type { EngineOptions } from '../../src/train/engine.js';
import type { RoundNote } from '../round/round.js';
import type { OwnBitClass } from '../worker/bit-class.js';

export interface ClusterOptions extends EngineOptions {
  readonly seed: number;
  /** Micro-batches and tokens of a step. */
  readonly microBatches: number;
  readonly tokensPerStep: number;
  /** Version of the initial weights, and the number of the coordinator's start. */
  readonly version: number;
  readonly incarnation: number;
  readonly minWorkers: number;
  readonly exact: boolean;
  readonly audit: number;
  readonly ownClass: OwnBitClass;
  /** False if this process must not compute anything to confirm workers. Default: true. */
  readonly ownerComputes?: boolean;
  /** Decides what is audited: uniform in [0, 1). The default is unpredictable. */
  readonly draw?: () => number;
  /** Bytes that the adapter can still allocate, if known. */
  readonly availableBytes?: () => number | undefined;
  /** By person, the first step to which it contributed under an earlier coordinator of this run. */
  readonly firstSteps?: ReadonlyMap<string, number>;
  /** Bit classes in notes are readable names, like `RemoteWorker.bitClass`. */
  readonly onNote: (note: RoundNote, step: number) => void;
  /** The owner's adapter cannot compute; the run goes on without it. */
  readonly onOwnerUnable?: (reason: string) => void;
}
