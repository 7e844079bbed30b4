import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { removeQuietly, syncDirectory } from '../files.js';
import { PARTIAL, writeFailure, writeText } from './atomic.js';
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
import { LOCK_NAME, RunLock } from './lock.js';
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
 *     report.html     all of it for people, written at the end
 *     checkpoints/    see checkpoint.ts
 *     lock            names the process that writes the run, see lock.ts
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
    private readonly lock?: RunLock,
  ) {
    this.checkpoints = join(path, 'checkpoints');
    this.log = new EventLog(path);
  }

  /** Throws LT_RUN_EXISTS where something is there already, LT_RUN_LOCKED where another process writes it. */
  static checkFree(path: string): void {
    if (!existsSync(path)) return;
    if (!statSync(path).isDirectory())
      throw new LantrainError('LT_RUN_EXISTS', `${path} is a file; choose another --out`);
    RunLock.check(path);
    if (readdirSync(path).some((name) => name !== LOCK_NAME && !name.endsWith(PARTIAL)))
      throw new LantrainError(
        'LT_RUN_EXISTS',
        `${path} is there already and not empty; choose another --out, or go on with it by --resume ${path}`,
      );
  }

  /** Makes a new run and locks it. Throws as `checkFree` does, and LT_RUN_WRITE where the system refuses. */
  static async create(path: string, config: RunConfig): Promise<RunDirectory> {
    let lock: RunLock | undefined;
    try {
      RunDirectory.checkFree(path);
      mkdirSync(path, { recursive: true });
      lock = RunLock.take(path);
      // Another process may have been here in between.
      RunDirectory.checkFree(path);
      await writeText(join(path, 'config.json'), `${JSON.stringify(RunConfig.parse(config), null, 1)}\n`);
      mkdirSync(join(path, 'checkpoints'), { recursive: true });
      await syncDirectory(path);
      await syncDirectory(dirname(path));
    } catch (error) {
      lock?.release();
      throw writeFailure(path, error);
    }
    return new RunDirectory(path, config, lock);
  }

  /**
   * Opens a run: to read it, perhaps while another process writes it, or to write it, which locks it and sweeps what a
   * crash left. Throws LT_RUN_MISSING where there is none, LT_CHECKPOINT_CORRUPT where its config.json is damaged,
   * LT_RUN_LOCKED where another process writes it.
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
    if (purpose === 'read') return new RunDirectory(path, config.data);
    const run = new RunDirectory(path, config.data, RunLock.take(path));
    try {
      await sweepCheckpoints(run.checkpoints);
    } catch (error) {
      run.close();
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

  /** Whether its metrics say that it has come to its end: then nothing of it is left to do. */
  isDone(): boolean {
    return this.log.has('done');
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

  /** Replaces report.html. Throws LT_RUN_WRITE. */
  writeReport(html: string): Promise<void> {
    return writeText(join(this.path, 'report.html'), html);
  }

  /** What is being written then is given up. Another process may write the run from here on. */
  close(): void {
    void this.saver?.close();
    this.log.close();
    this.lock?.release();
  }

  /** Closes a run that never began, and removes it. */
  async discard(): Promise<void> {
    this.close();
    await removeQuietly(this.path);
  }
}
