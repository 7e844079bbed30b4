import type { EngineOptions } from '../../src/train/engine.js';
import type { RoundNote } from '../round/round.js';
import type { OwnBitClass } from '../worker/bit-class.js';

export interface ClusterOptions extends EngineOptions {
  readonly seed: number;
  /** Micro-batches and tokens of a step. */
  readonly microBatches: number;
  readonly tokensPerStep: number;
  /** Updates behind the weights that the run goes on from, and the count of this run's coordinators. */
  readonly version: number;
  readonly incarnation: number;
  readonly minWorkers: number;
  readonly exact: boolean;
  readonly audit: number;
  readonly ownClass: OwnBitClass;
  /** False where this process is not to compute, whatever it is asked to confirm. True by default. */
  readonly ownerComputes?: boolean;
  /** Decides what is audited: uniform in [0, 1). By default nobody can foresee it. */
  readonly draw?: () => number;
  /** What the adapter can still take, where that is known. */
  readonly availableBytes?: () => number | undefined;
  /** By person, the first step of this run to which it contributed under an earlier coordinator. */
  readonly firstSteps?: ReadonlyMap<string, number>;
  /** Classes in notes are names, as `RemoteWorker.bitClass`. */
  readonly onNote: (note: RoundNote, step: number) => void;
  /** The owner's adapter cannot compute, and the run goes on without. */
  readonly onOwnerUnable?: (reason: string) => void;
}
