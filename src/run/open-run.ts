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

/** A run's config.json without its kernel plan. */
export interface SavedConfig {
  /** The version of lantrain that began the run. */
  readonly version: string;
  readonly model: ModelConfig;
  readonly options: TrainOptions;
  readonly data: { readonly hash: string; readonly description: string };
  /** The Hugging Face folder that the initial weights came from, if any. */
  readonly init?: string;
  /** The adapter that began the run. */
  readonly adapter: string;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
}

/** A checkpoint of a run. Its folder is a Hugging Face GPT-2 model, for `init` and for other programs. */
export interface SavedCheckpoint {
  /** The number of steps behind this state. */
  readonly step: number;
  /** SHA-256 of weights, moments and step, hex, as noted when the checkpoint was written. */
  readonly digest: string;
  readonly path: string;
}

/** Whether a run goes on, and how it ended. */
export interface RunStanding {
  /** `unfinished`: its process was killed; the run can be resumed from its last checkpoint. */
  readonly state: 'running' | 'done' | 'stopped' | 'failed' | 'unfinished';
  /** Why it failed, in words. */
  readonly reason?: string;
}

/**
 * A run on disk, read-only. Each call reads the current files, so a run that another process trains can be followed.
 * Nothing is written or locked.
 */
export interface Run {
  readonly path: string;
  readonly config: SavedConfig;
  /**
   * All events of metrics.jsonl in order. A run that was killed and resumed has some steps twice. A half-written last
   * line is left out. Throws LT_CHECKPOINT_CORRUPT for a damaged file.
   */
  metrics(): MetricsEvent[];
  /** The sample texts, each step's once. Throws as `metrics` does. */
  samples(): SampleEvent[];
  /**
   * The checkpoints on disk, oldest first. Their weights are not read and their digests not checked. A checkpoint
   * without a readable state.json is left out.
   */
  checkpoints(): SavedCheckpoint[];
  /** Whether the run is being trained, or how it ended. Throws as `metrics` does. */
  end(): RunStanding;
  /**
   * Defined where the run has used a wrong result of a worker: its digests are then not exact. Throws as `metrics`
   * does.
   */
  inexact(): Inexact | undefined;
}

/**
 * Opens the run in the folder `path` to read it. Throws LT_RUN_MISSING where there is none, LT_CHECKPOINT_CORRUPT where
 * its config.json is damaged.
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
      // The lock is read first: a run that ends meanwhile writes its end before it releases its lock.
      const isHeld = RunLock.isHeld(run.root);
      const end = endOf(metrics());
      return end.state === 'unfinished' && isHeld ? { state: 'running' } : end;
    },
    inexact: () => inexactOf(metrics()),
  };
}

/** Empty where its state.json cannot be read, for example because another process is removing the checkpoint. */
function savedCheckpoint(path: string): SavedCheckpoint[] {
  try {
    const { step, digest } = readState(path);
    return [{ step, digest, path }];
  } catch (error) {
    if (error instanceof LantrainError) return [];
    throw error;
  }
}
