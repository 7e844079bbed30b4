import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { PARTIAL, syncDirectory, writeFailure, writeText } from './atomic.js';
import {
  type Checkpoint,
  type Found,
  latestCheckpoint,
  listCheckpoints,
  type NewCheckpoint,
  sweepCheckpoints,
  writeAndPrune,
} from './checkpoint.js';
import { EventLog, type LoggedEvent } from './event-log.js';
import { issues, readJson } from './huggingface-config.js';
import { RunConfig } from './identity.js';
import { type Saved, Saver } from './saver.js';
import type { SharedState } from './shared-state.js';

/** Checkpoints that stay: the newest, and the one before it should the newest turn out damaged. */
export const KEPT_CHECKPOINTS = 2;

/**
 * A run's directory:
 *
 *     config.json     its identity, written once
 *     metrics.jsonl   events, one a line
 *     samples.txt     the samples among them
 *     loss.svg
 *     checkpoints/    see checkpoint.ts
 *
 * A run goes on in this order: `open(path, 'write')`, `latest()`, identity checked, `restoreCheckpoint`, `cutBack(step)`.
 * Until `cutBack` a refused resume has changed nothing. Within a step, `append` what belongs to it before its
 * `writeCheckpoint`: what was appended after it, and no more, is lost with a crash.
 */
export class RunDirectory {
  readonly checkpoints: string;
  private readonly log: EventLog;
  private saver: Saver | undefined;

  private constructor(
    readonly path: string,
    readonly config: RunConfig,
  ) {
    this.checkpoints = join(path, 'checkpoints');
    this.log = new EventLog(path);
  }

  /** Throws LT_RUN_EXISTS where something is there already. */
  static checkFree(path: string): void {
    if (!existsSync(path)) return;
    if (!statSync(path).isDirectory())
      throw new LantrainError('LT_RUN_EXISTS', `${path} is a file; choose another --out`);
    if (readdirSync(path).some((name) => !name.endsWith(PARTIAL)))
      throw new LantrainError(
        'LT_RUN_EXISTS',
        `${path} is there already and not empty; choose another --out, or go on with it by --resume ${path}`,
      );
  }

  /** Makes a new run. Throws LT_RUN_EXISTS where something is there already, LT_RUN_WRITE where the system refuses. */
  static async create(path: string, config: RunConfig): Promise<RunDirectory> {
    try {
      RunDirectory.checkFree(path);
      mkdirSync(path, { recursive: true });
      await writeText(join(path, 'config.json'), `${JSON.stringify(RunConfig.parse(config), null, 1)}\n`);
      mkdirSync(join(path, 'checkpoints'), { recursive: true });
      await syncDirectory(path);
      await syncDirectory(dirname(path));
    } catch (error) {
      throw writeFailure(path, error);
    }
    return new RunDirectory(path, config);
  }

  /**
   * Opens a run: to read it, perhaps while another process writes it, or to write it, which sweeps what a crash left.
   * Throws LT_RUN_MISSING where there is none, LT_CHECKPOINT_CORRUPT where its config.json is damaged.
   */
  static async open(path: string, purpose: 'read' | 'write'): Promise<RunDirectory> {
    const configPath = join(path, 'config.json');
    if (!existsSync(configPath))
      throw new LantrainError(
        'LT_RUN_MISSING',
        existsSync(path) ? `${path} is no run: it has no config.json` : `there is no run at ${path}`,
      );
    const config = RunConfig.safeParse(readJson(configPath));
    if (!config.success)
      throw new LantrainError(
        'LT_CHECKPOINT_CORRUPT',
        `${configPath} is no run's config.json: ${issues(config.error)}`,
      );
    const run = new RunDirectory(path, config.data);
    if (purpose === 'write')
      try {
        await sweepCheckpoints(run.checkpoints);
      } catch (error) {
        throw writeFailure(run.checkpoints, error);
      }
    return run;
  }

  /**
   * The newest checkpoint that opens, and a line for each newer one that does not; undefined where the run has none yet.
   * The caller closes it. Throws LT_CHECKPOINT_CORRUPT where there are checkpoints but none is whole.
   */
  async latest(): Promise<Found<Checkpoint>> {
    const result = await latestCheckpoint(this.checkpoints);
    if (!result.found && result.warnings.length > 0)
      throw new LantrainError(
        'LT_CHECKPOINT_CORRUPT',
        `${this.path} has no checkpoint that is whole: ${result.warnings.join('; ')}`,
      );
    return result;
  }

  /** Steps and places of the checkpoints, oldest first. */
  list(): { step: number; path: string }[] {
    return listCheckpoints(this.checkpoints);
  }

  /** Adds an event to metrics.jsonl, a sample to samples.txt as well. Throws LT_RUN_WRITE. */
  append(event: LoggedEvent): void {
    this.log.append(event);
  }

  /** Drops events of steps later than `step`, 0 for all steps, before the run goes on from there. Throws LT_RUN_WRITE. */
  cutBack(step: number): Promise<void> {
    return this.log.cutBack(step);
  }

  /**
   * Writes the checkpoint of a step and then removes all but the newest `keep`. On LT_RUN_WRITE nothing of the new one
   * is left and the ones before it stand.
   */
  async writeCheckpoint(next: NewCheckpoint, keep = KEPT_CHECKPOINTS): Promise<Saved> {
    this.log.sync();
    return writeAndPrune(this.checkpoints, next, keep);
  }

  /** As `writeCheckpoint`, in a thread of its own. `state` must not change until then, and only one is written at a time. */
  async writeBeside(
    checkpoint: Omit<NewCheckpoint, 'read'>,
    state: SharedState,
    keep = KEPT_CHECKPOINTS,
  ): Promise<Saved> {
    this.log.sync();
    this.saver ??= new Saver();
    const { memory, places } = state;
    return this.saver.save({ dir: this.checkpoints, keep, checkpoint, state: { memory, places } });
  }

  /** Replaces loss.svg. Throws LT_RUN_WRITE. */
  writePlot(svg: string): Promise<void> {
    return writeText(join(this.path, 'loss.svg'), svg);
  }

  /** What is being written then is given up. */
  close(): void {
    void this.saver?.close();
    this.log.close();
  }
}
