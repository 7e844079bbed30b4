import { join } from 'node:path';
import { readState } from '../checkpoint/checkpoint.js';
import { RunLock } from '../checkpoint/lock.js';
import { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { courseOf, endOf } from '../report/course.js';
import { type Inexact, inexactOf } from '../report/exactness.js';
import { type MetricsEvent, readMetrics, type SampleEvent } from '../report/metrics.js';
import type { TrainOptions } from '../train/options.js';
import { RunConfigSchema } from '../train/run-config.js';
import { parseConfig } from './saved-config.js';

/** What a run is, by its config.json. The kernels that compute it are no part of this. */
export interface SavedConfig {
  /** lantrain's version that began the run. */
  readonly version: string;
  readonly model: ModelConfig;
  readonly options: TrainOptions;
  readonly data: { readonly hash: string; readonly description: string };
  /** The Hugging Face folder that the weights came from, if any. */
  readonly init?: string;
  /** The adapter that began the run. */
  readonly adapter: string;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** A checkpoint of a run: a folder that `--init` and other programs take as a Hugging Face GPT-2 model. */
export interface SavedCheckpoint {
  /** It is the state after so many steps. */
  readonly step: number;
  /** SHA-256 of weights and optimizer state, as it was noted when it was written. */
  readonly digest: string;
  readonly path: string;
}

/** How far a run is from its end. */
export interface RunStanding {
  /** `unfinished`: it was killed, and can go on from its last checkpoint. */
  readonly state: 'running' | 'done' | 'stopped' | 'failed' | 'unfinished';
  /** Of what failed. */
  readonly reason?: string;
}

/**
 * A run as it lies on the disk. Each call reads what is there by then, so a run that another process trains can be
 * followed. Nothing is written or locked.
 */
export interface Run {
  readonly path: string;
  readonly config: SavedConfig;
  /**
   * The events of metrics.jsonl in order, steps that were computed twice included; a line in the making is left out. Throws
   * LT_CHECKPOINT_CORRUPT.
   */
  metrics(): MetricsEvent[];
  /** The texts that the model wrote on its way. Throws as `metrics` does. */
  samples(): SampleEvent[];
  /**
   * Those that are there, oldest first. Their values are not read, so their digests are not checked; one that does not
   * say its digest is left out.
   */
  checkpoints(): SavedCheckpoint[];
  /** Throws as `metrics` does. */
  end(): RunStanding;
  /** Set where the run has used what a worker computed wrongly: its digests are then not exact. Throws as `metrics` does. */
  inexact(): Inexact | undefined;
}

/**
 * Opens a run to read it. Throws LT_RUN_MISSING where there is none, LT_CHECKPOINT_CORRUPT where its config.json is
 * damaged.
 */
export async function openRun(path: string): Promise<Run> {
  const run = await RunDirectory.open(path, 'read');
  const config = parseConfig(run, RunConfigSchema.omit({ plan: true }));
  const metrics = () => readMetrics(join(run.root, 'metrics.jsonl'));
  return {
    path,
    config,
    metrics,
    samples: () => courseOf(metrics()).filter((event) => event.event === 'sample'),
    checkpoints: () => run.list().flatMap(({ path }) => savedCheckpoint(path)),
    end: () => {
      // In this order: a run that ends meanwhile has noted how before it gives its lock back.
      const isHeld = RunLock.isHeld(run.root);
      const end = endOf(metrics());
      return end.state === 'unfinished' && isHeld ? { state: 'running' } : end;
    },
    inexact: () => inexactOf(metrics()),
  };
}

/** Nothing where another process is just removing it. */
function savedCheckpoint(path: string): SavedCheckpoint[] {
  try {
    const { step, digest } = readState(path);
    return [{ step, digest, path }];
  } catch (error) {
    if (error instanceof LantrainError) return [];
    throw error;
  }
}
