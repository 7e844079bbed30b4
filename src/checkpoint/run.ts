import { existsSync, mkdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { writeFailure, writeOwnText } from '../files/atomic.js';
import { checkWritable, isSystemError, makeFolder, makeOwnFolder, removeEmpty, syncDirectory } from '../files/files.js';
import { shellQuote } from '../util/shell.js';
import { validate } from '../util/validate.js';
import {
  type Checkpoint,
  latestCheckpoint,
  listCheckpoints,
  type NewCheckpoint,
  type OnProgress,
  stampOf,
} from './checkpoint.js';
import { EventLog, type LoggedEvent } from './event-log.js';
import { readJson } from './huggingface-config.js';
import { RunIdentity } from './identity.js';
import { nameAside, setAside, sweepCheckpoints, writeAndPrune } from './kept.js';
import { RunLock } from './lock.js';
import { type Saved, Saver } from './saver.js';
import type { SharedState } from './shared-state.js';
import { CHECKPOINTS_FOLDER, CONFIG_NAME, checkTree, isFree, removeTree, rootOf, sweepFiles } from './tree.js';

export interface Latest {
  readonly found: Checkpoint | undefined;
  /** One line for each newer checkpoint that is damaged and was skipped. */
  readonly warnings: string[];
}

/** Reading fewer values is too fast for a progress bar. */
const LONG_READING = 1e8;

/** Checkpoints that are kept: the newest, and the one before it in case the newest is damaged. */
export const KEPT_CHECKPOINTS = 2;

/**
 * A run's folder:
 *
 *     config.json     its identity, written once
 *     metrics.jsonl   events, one a line
 *     samples.txt     the samples among them
 *     loss.svg
 *     report.html     all of it for people, written at the end
 *     checkpoints/    see checkpoint.ts
 *     lock            names the process that writes the run, see lock.ts
 *     cluster/        secrets of the run, see src/net/secret-files.ts
 *
 * The folder may come from another person: before anything is written, tree.ts checks what lies in it.
 *
 * To resume a run, call in this order: `open(path, 'write')`, `latest()`, a check of the identity, `restoreCheckpoint`,
 * `cutBack(step)`. A resume that is refused before `cutBack` has changed nothing. `cutBack` also sets aside the damaged
 * checkpoints that `latest` skipped. Within a step, `append` its events before its `writeCheckpoint`: a crash loses
 * only what was appended after the last checkpoint. The class is one file because of this order.
 */
export class RunDirectory {
  readonly checkpoints: string;
  private readonly log: EventLog;
  private saver: Saver | undefined;
  /**
   * Stamps of checkpoints whose digest was checked. A resume calls `latest` twice and need not read everything twice.
   */
  private readonly checkedStamps = new Set<string>();
  private passedOver: readonly string[] = [];

  /**
   * `path`: as the user names it, for messages. `root`: its real path, where everything is written. `made`: the
   * outermost folder that was made for a new run.
   */
  private constructor(
    readonly path: string,
    readonly root: string,
    readonly config: RunIdentity,
    private readonly lock?: RunLock,
    private readonly made?: string,
  ) {
    this.checkpoints = join(root, CHECKPOINTS_FOLDER);
    this.log = new EventLog(root);
  }

  /**
   * Throws LT_RUN_EXISTS where `path` is a file or a folder that is not free (`isFree`), LT_RUN_LOCKED where another
   * process writes it, LT_RUN_FOREIGN where its lock is not a file of this user, LT_RUN_WRITE where the folder cannot be
   * examined or made.
   */
  static checkFree(path: string): void {
    try {
      if (existsSync(path)) {
        if (!statSync(path).isDirectory())
          throw new LantrainError('LT_RUN_EXISTS', `${path} is a file; choose another --out`);
        RunLock.check(path);
        if (!isFree(path))
          throw new LantrainError(
            'LT_RUN_EXISTS',
            `${path} is there already and not empty; choose another --out, or go on with it by --resume ${shellQuote(path)}`,
          );
      }
      checkWritable(path);
    } catch (error) {
      throw writeFailure(path, error);
    }
  }

  /**
   * Makes a new run and locks it. Throws as `checkFree` does, and LT_RUN_WRITE where the system refuses; what it has
   * made is then removed.
   */
  static async create(path: string, config: RunIdentity): Promise<RunDirectory> {
    let made: string | undefined;
    try {
      RunDirectory.checkFree(path);
      made = makeFolder(path);
    } catch (error) {
      throw writeFailure(path, error);
    }
    return RunDirectory.fill(path, config, made);
  }

  /**
   * As `create`, at the first of `paths` where nothing lies. Processes that try the same paths at the same moment get
   * different ones.
   */
  static async createFirst(paths: Iterable<string>, config: RunIdentity): Promise<RunDirectory> {
    for (const path of paths) {
      let made: string | undefined;
      try {
        made = makeFolder(dirname(path));
        if (!makeNew(path)) continue;
      } catch (error) {
        removeEmpty(dirname(path), made);
        throw writeFailure(path, error);
      }
      return RunDirectory.fill(path, config, made ?? path);
    }
    throw new Error('no path is left for the run');
  }

  private static async fill(path: string, config: RunIdentity, made: string | undefined): Promise<RunDirectory> {
    let lock: RunLock | undefined;
    let root = path;
    let isMine = false;
    try {
      root = rootOf(path);
      checkTree(root);
      lock = RunLock.take(root);
      // Another process may have been here in between.
      RunDirectory.checkFree(path);
      isMine = true;
      await sweepFiles(root);
      await writeOwnText(join(root, CONFIG_NAME), `${JSON.stringify(RunIdentity.parse(config), null, 1)}\n`);
      makeOwnFolder(join(root, CHECKPOINTS_FOLDER));
      await syncDirectory(root);
      await syncDirectory(dirname(root));
    } catch (error) {
      if (isMine) await removeTree(root);
      lock?.release();
      removeEmpty(path, made);
      throw writeFailure(path, error);
    }
    return new RunDirectory(path, root, config, lock, made);
  }

  /**
   * Opens a run. `read`: also while another process writes it. `report`: may replace report.html. `write`: locks it and
   * removes what a crash left. Throws LT_RUN_MISSING where there is no run, LT_RUN_FOREIGN where it holds something
   * that must not be touched, LT_CHECKPOINT_CORRUPT where its config.json is damaged, LT_RUN_LOCKED where another
   * process writes it.
   */
  static async open(path: string, purpose: 'read' | 'report' | 'write'): Promise<RunDirectory> {
    const configPath = join(path, CONFIG_NAME);
    if (!existsSync(configPath))
      throw new LantrainError(
        'LT_RUN_MISSING',
        existsSync(path) ? `${path} is no run: it has no config.json` : `there is no run at ${path}`,
      );
    const root = RunDirectory.check(path, purpose);
    const config = validate(RunIdentity, readJson(configPath));
    if (!config.ok)
      throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${configPath} is no run's config.json: ${config.wrong}`);
    if (purpose !== 'write') return new RunDirectory(path, root, config.data);
    const run = new RunDirectory(path, root, config.data, RunLock.take(root));
    try {
      await sweepFiles(root);
      await sweepCheckpoints(run.checkpoints);
    } catch (error) {
      run.close();
      throw writeFailure(path, error);
    }
    return run;
  }

  private static check(path: string, purpose: 'read' | 'report' | 'write'): string {
    try {
      const root = rootOf(path);
      if (purpose !== 'read') checkTree(root);
      return root;
    } catch (error) {
      throw writeFailure(path, error);
    }
  }

  /**
   * The newest whole checkpoint, and a line for each newer damaged one; undefined where the run has no checkpoint yet.
   * Reads all values of a checkpoint once to check its digest. The caller closes the checkpoint. Throws
   * LT_CHECKPOINT_CORRUPT where there are checkpoints but none is whole.
   */
  async latest(onProgress?: OnProgress): Promise<Latest> {
    const onLong: OnProgress = (done, total) => {
      if (total >= LONG_READING) onProgress?.(done, total);
    };
    const { found, passedOver } = await latestCheckpoint(
      this.checkpoints,
      { model: this.config.model, wire: this.config.options?.wire },
      (path) => this.isKnown(path),
      onLong,
    );
    if (!found && passedOver.length > 0)
      throw new LantrainError(
        'LT_CHECKPOINT_CORRUPT',
        `${this.path} has no checkpoint that is whole: ${passedOver.map(({ why }) => why).join('; ')}`,
      );
    if (found && this.lock) this.checkedStamps.add(stampOf(found.path));
    this.passedOver = passedOver.map(({ path }) => path);
    const fate = (path: string) =>
      this.lock ? `; when the run goes on, it is set aside as ${basename(nameAside(path))}` : '';
    return { found, warnings: passedOver.map(({ path, why }) => `${path} is passed over: ${why}${fate(path)}`) };
  }

  /**
   * Whether the digest was checked before. Only a locked run remembers: otherwise another process may replace a
   * checkpoint.
   */
  private isKnown(path: string): boolean {
    return this.lock !== undefined && this.checkedStamps.has(stampOf(path));
  }

  /** Steps and paths of the checkpoints, oldest first. */
  list(): { step: number; path: string }[] {
    return listCheckpoints(this.checkpoints);
  }

  /** Whether its metrics.jsonl has a `done` event: nothing is left to do. */
  isDone(): boolean {
    return this.log.has('done');
  }

  /** Adds an event to metrics.jsonl, and a sample also to samples.txt. Throws LT_RUN_WRITE. */
  append(event: LoggedEvent): void {
    this.log.append(event);
  }

  /** Makes what was appended durable. Throws LT_RUN_WRITE. */
  sync(): void {
    this.log.sync();
  }

  /**
   * Prepares a resume from `step`: drops events of later steps (0 drops all steps) and sets aside the checkpoints that
   * `latest` skipped. Throws LT_RUN_WRITE.
   */
  async cutBack(step: number): Promise<void> {
    await this.log.cutBack(step);
    for (const path of this.passedOver) await setAside(path);
    this.passedOver = [];
  }

  /**
   * Writes the checkpoint of a step, then removes all but the newest `keep` whole ones. On LT_RUN_WRITE nothing of the
   * new one is left, and the older ones stay.
   */
  async writeCheckpoint(next: NewCheckpoint, keep = KEPT_CHECKPOINTS): Promise<Saved> {
    this.log.sync();
    return writeAndPrune(this.checkpoints, next, keep);
  }

  /**
   * As `writeCheckpoint`, in another thread. `state` must not change until it resolves. Only one may be written at a
   * time.
   */
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
    return writeOwnText(join(this.root, 'loss.svg'), svg);
  }

  /** Replaces report.html. Throws LT_RUN_WRITE. */
  writeReport(html: string): Promise<void> {
    return writeOwnText(join(this.root, 'report.html'), html);
  }

  /** Gives up a write in progress and releases the lock: another process may then write the run. */
  close(): void {
    void this.saver?.close();
    this.log.close();
    this.lock?.release();
  }

  /**
   * Closes a run that never began, and removes it with the folders made for it. A second call removes what was written
   * meanwhile.
   */
  async discard(): Promise<void> {
    this.close();
    await removeTree(this.root);
    removeEmpty(this.path, this.made);
  }
}

/** Makes a folder; false where anything lies at `path`, even an empty folder. */
function makeNew(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === 'EEXIST') return false;
    throw error;
  }
}
