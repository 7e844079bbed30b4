import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import {
  type Access,
  adminTokenFile,
  certificateWarning,
  loadOrCreateAccess,
  ownPair,
  readIncarnation,
  readPort,
  saveIncarnation,
  savePort,
} from '../../cluster/access/access.js';
import { hexFingerprint } from '../../cluster/access/join-url.js';
import { ClusterEngine } from '../../cluster/coordinator/engine.js';
import { mostWords } from '../../cluster/exchange/blocks.js';
import { END_REASONS, type EndReason, PROBE_NONCE_BYTES } from '../../cluster/protocol/protocol.js';
import { MAX_TOKEN_BYTES, tokenBytes } from '../../cluster/protocol/tokens.js';
import type { RoundNote } from '../../cluster/round/round.js';
import { advertise } from '../../cluster/transport/discovery.js';
import { DEFAULT_LIMITS } from '../../cluster/transport/limits.js';
import { isLoopback } from '../../cluster/transport/loopback.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import { ownBitClass } from '../../cluster/worker/bit-class.js';
import type { RunDirectory } from '../checkpoint/run.js';
import { ACCESS_FOLDER } from '../checkpoint/tree.js';
import { LantrainError } from '../errors.js';
import { isSystemError } from '../files/files.js';
import type { ParameterLayout } from '../model/layout.js';
import { availableMemory } from '../node/memory.js';
import { openGpu } from '../node/open-gpu.js';
import { loadShaders } from '../node/shaders.js';
import { version } from '../node/version.js';
import { courseOf } from '../report/course.js';
import { firstStepsIn } from '../report/exactness.js';
import { formatDuration, reasonOf } from '../report/format.js';
import {
  type ClusterEvent,
  type ContributedEvent,
  readMetrics,
  readMetricsLines,
  type WorkersEvent,
} from '../report/metrics.js';
import type { Reporter } from '../report/progress.js';
import { type Happening, Thinner } from '../report/thinner.js';
import { workersOf } from '../report/workers.js';
import { adamwOf, type Job, shapeOfJob } from '../run/prepare.js';
import { type Conductor, runTraining, type TrainCommand } from '../run/session.js';
import type { RunConfig } from '../train/run-config.js';
import { clusterSource } from '../watch/cluster-source.js';
import { serveSite } from '../watch/site.js';
import { isAny, joinLines, ownAddress, pageAddress } from './joining.js';
import { DEFAULT_PORT, listenOn, type Ports, portsFor, throwIfTaken } from './listen-port.js';
import { loadingBar } from './loading.js';
import { Refusals } from './refusals.js';
import { Throughput, workerLines } from './throughput.js';
import { announcePage, secretsOf, siteFolder, type Watched, watchersOf } from './watch.js';

export interface CoordinatorCommand extends TrainCommand {
  readonly host: string;
  /** 0 takes a free one; absent, the default port or the next that is free. */
  readonly port?: number;
  readonly minWorkers: number;
  readonly exact: boolean;
  readonly audit: number;
  /** Plain ws on other addresses than this machine's own. */
  readonly plain: boolean;
  readonly cert?: string;
  readonly key?: string;
  /** What the user typed, where it was not `coordinator`. */
  readonly verb?: string;
  /** Told where workers can join, for whoever starts some. */
  readonly onListening?: (listening: Listening) => void;
}

export interface Listening {
  readonly url: string;
  /** Whether the owner's adapter is the processor itself. */
  readonly software: boolean;
  /** Prints a line among those of the run. */
  note(line: string): void;
  /** Ends the run with an error; what it has done is saved first. */
  fail(why: LantrainError): void;
}

/** `lantrain coordinator`: owns the state and takes the steps; workers that join compute them. */
export async function coordinate(command: CoordinatorCommand): Promise<number> {
  // Before the long work: a certificate that will not do is none of the run's business.
  if (command.cert !== undefined) await ownPair(command.cert, command.key);
  return runTraining(command, new ClusterConductor(command));
}

/** Counters that are zero in a run without trouble. */
const REMARKABLE: ReadonlySet<string> = new Set([
  'stale',
  'impossible',
  'spoiled',
  'refused',
  'fenced',
  'audited',
  'wrongBuckets',
  'late',
  'refuted',
]);

const THROUGHPUT_MS = 10_000;

class ClusterConductor implements Conductor {
  #engine: ClusterEngine | undefined;
  #server: ClusterServer | undefined;
  #withdraw: () => void = () => {};
  #report: (note: RoundNote, step: number) => void = () => {};
  #events: Thinner<ClusterEvent> | undefined;
  #refusals: Refusals | undefined;
  /** Lines for the terminal and the page's log that were held back. */
  #flushLines: () => void = () => {};
  /** Lines for the terminal; those of before there is one wait. */
  readonly #lines: string[] = [];
  #say: (line: string) => void = (line) => void this.#lines.push(line);
  #incarnation = 1;
  #from = 0;
  #ports: Ports = portsFor(0, undefined);
  readonly #throughput = new Throughput();
  #throughputTimer: NodeJS.Timeout | undefined;

  constructor(readonly command: CoordinatorCommand) {}

  get audits(): boolean {
    return this.command.audit > 0;
  }

  get verb(): string {
    return this.command.verb ?? 'coordinator';
  }

  /** At most: differences are packed, and seldom as wide as here. */
  hostMemory(layout: ParameterLayout): Record<string, number> {
    const updates = layout.buckets().reduce((sum, { size }) => sum + 4 * mostWords(size, 'differences'), 0);
    return { sums: 8 * layout.allocatedValues, updates, receiving: DEFAULT_LIMITS.receivePoolBytes };
  }

  async create(job: Job, from: number, path: string): Promise<ClusterEngine> {
    const { config, gpu, plan } = job;
    const { options, model } = config;
    const last = await lastStart(path, this.command.resume !== undefined);
    this.#incarnation = last.incarnation + 1;
    this.#from = from;
    if (this.command.audit > 1)
      throw new LantrainError('LT_USAGE_OPTION', `--audit ${this.command.audit}: it is a share, from 0 to 1`);
    const { host, port } = this.command;
    // Before the long work of what follows.
    this.#ports = portsFor(port, last.port);
    await listenOn(host, this.#ports, (one) => ClusterServer.checkAddress(host, one));
    const shape = shapeOfJob(config);
    checkMessages(config);
    // A device of its own, so that its memory is free again before the owner's is taken.
    const probeGpu = await openGpu(this.command.adapter);
    const onProgress = loadingBar('compiling the kernels');
    const nonce = randomBytes(PROBE_NONCE_BYTES);
    const ownClass = await ownBitClass(probeGpu, loadShaders(), { model, plan, shape }, nonce, onProgress);
    probeGpu.device.destroy();
    this.#engine = await ClusterEngine.create(gpu, loadShaders(), {
      model,
      shape,
      plan,
      adamw: adamwOf(options),
      clip: options.clip,
      seed: options.seed,
      microBatches: options.batch / options.microBatch,
      tokensPerStep: options.batch * model.context,
      version: from,
      incarnation: this.#incarnation,
      minWorkers: this.command.minWorkers,
      exact: this.command.exact,
      audit: this.command.audit,
      ownClass,
      availableBytes: () => availableMemory(gpu.adapter),
      // What came after the step that the run goes on from is computed again.
      firstSteps: this.command.resume === undefined ? undefined : firstStepsOf(path, from),
      onNote: (note, step) => this.#report(note, step),
      onOwnerUnable: (reason) => this.#say(`the adapter here cannot confirm what workers compute: ${reason}`),
    });
    if (this.audits) await this.#engine.prepareOwner(loadingBar('compiling the kernels that confirm workers'));
    return this.#engine;
  }

  /** The workers' step in hand may take so long once the end is asked for. */
  readonly patienceMs = 30_000;

  async begin(
    run: RunDirectory,
    reporter: Reporter,
    watched: Watched,
    waiting: (waits: boolean) => void,
  ): Promise<void> {
    const engine = this.#engine as ClusterEngine;
    const { telemetry } = watched;
    const { command } = this;
    const folder = join(run.root, ACCESS_FOLDER);
    const access = await loadOrCreateAccess(folder, { cert: command.cert, key: command.key });
    if (access.remark !== undefined) reporter.note(`access   ${access.remark}`);
    await saveIncarnation(folder, this.#incarnation);
    this.#events = new Thinner((event) => {
      try {
        run.append(event);
      } catch (error) {
        // A timer may have brought it here, where nobody would catch it.
        engine.abandon(error as Error);
      }
      reporter.event(event);
      telemetry.event(event);
    });
    const log = new Thinner<Happening>((one) => telemetry.log(one.event, reasonOf(one), one.worker));
    const lines = new Thinner<Happening>((one) => reporter.note(reasonOf(one)));
    this.#flushLines = () => {
      lines.flush();
      log.flush();
    };
    this.#report = (note, step) => {
      if (note.note === 'contributed') {
        const contributed: ContributedEvent = { event: 'contributed', step: note.step, person: note.person };
        run.append(contributed);
        return;
      }
      if (note.note === 'inexact') {
        const mark = {
          event: 'inexact',
          step: note.since,
          worker: engine.nameOf(note.worker),
          reason: note.reason,
        } as const;
        // At once and for good: a checkpoint that it is of is there already, and outlives a power cut.
        run.append(mark);
        run.sync();
        reporter.event(mark);
        telemetry.event(mark);
        return;
      }
      const event = eventOf(note, step, engine);
      if (event !== undefined) {
        this.#events?.add(event);
        return;
      }
      const worker = 'worker' in note && note.worker !== undefined ? engine.nameOf(note.worker) : undefined;
      const line = lineOf(note, engine);
      if (line) lines.add({ event: note.note, worker, reason: line });
      if (note.note === 'waiting') waiting(true);
      else if (note.note === 'going-on') waiting(false);
      if (note.note in RETRIES)
        log.add({ event: note.note, worker, reason: 'reason' in note ? note.reason : RETRIES[note.note] });
    };
    this.#say = (line) => {
      reporter.note(line);
      telemetry.log('audit', line);
    };
    for (const line of this.#lines.splice(0)) this.#say(line);
    if (this.#incarnation > 1) {
      const resume = { event: 'resume', step: this.#from, reason: `incarnation ${this.#incarnation}` } as const;
      run.append(resume);
      reporter.event(resume);
      telemetry.event(resume);
    }
    const { host } = command;
    const secrets = secretsOf(access, !command.plain);
    const refusals = new Refusals(reporter, telemetry);
    this.#refusals = refusals;
    telemetry.live = clusterSource(engine);
    this.#server = await listenOn(host, this.#ports, async (port) => {
      // Where a socket for IPv6 does not see that IPv4's is taken.
      if (port > 0 && host === '::') await ClusterServer.checkAddress('0.0.0.0', port).catch(throwIfTaken);
      return ClusterServer.listen({
        host,
        port,
        token: access.token,
        tls: command.plain ? undefined : access,
        limits: LIFE,
        allowPlain: command.plain,
        version: version(),
        onRequest: serveSite(siteFolder()),
        watchers: watchersOf(watched, secrets, reporter, refusals),
        onConnection: (connection) => engine.admit(connection),
        onRefused: (error, peer) => refusals.add(error, peer),
      });
    });
    await savePort(folder, this.#server.port);
    this.#withdraw = this.#advertise(access, basename(run.path));
    const { host: shown, remark } = await ownAddress(host);
    const joins = joinLines(this.#server.joinUrl(shown), shown, command.plain);
    for (const line of [...joins, ...(remark ? [remark] : [])]) reporter.note(line);
    if (command.port === undefined && this.#server.port !== DEFAULT_PORT && !this.#ports.isKept)
      reporter.note(`port     ${this.#server.port}, as ${DEFAULT_PORT} is taken; open it where there is a firewall`);
    // For who opens the page, to compare with what the browser's warning shows.
    if (!command.plain) reporter.note(`SHA-256  ${hexFingerprint(access.fingerprint)} (certificate)`);
    const warning = command.plain ? undefined : certificateWarning(access.certificate);
    if (warning !== undefined) reporter.note(`warning  ${warning}`);
    reporter.note(
      `workers  any number, at any time${command.minWorkers > 1 ? `; ${command.minWorkers} to begin` : ''}`,
    );
    const address = pageAddress(shown, this.#server.port, !command.plain);
    if (!isLoopback(shown)) telemetry.address = address;
    await announcePage(reporter, shown, address, secrets, adminTokenFile(folder));
    this.#throughputTimer = setInterval(() => {
      const line = this.#throughput.line(engine.members.values());
      if (line) reporter.note(line);
    }, THROUGHPUT_MS);
    command.onListening?.({
      url: this.#server.joinUrl(isAny(host) ? '127.0.0.1' : host),
      software: engine.gpu.adapter.software,
      note: (line) => reporter.note(line),
      fail: (why) => engine.abandon(why),
    });
  }

  drop(worker: number): string | false {
    return this.#engine?.drop(worker) ?? false;
  }

  workers(step: number): WorkersEvent {
    // Before the checkpoint that they belong to.
    this.#events?.flush();
    const news = this.#engine?.credits.tally.takeNews() ?? [];
    return { event: 'workers', step, workers: news.map((total) => ({ ...total })) };
  }

  /** What the reader of a digest should know of how it came about. */
  remarks(run: RunDirectory): string[] {
    const engine = this.#engine as ClusterEngine;
    const counted = Object.entries(engine.counters).filter(([name, count]) => REMARKABLE.has(name) && count > 0);
    const counters = counted.map(([name, count]) => `${name} ${count}`).join(', ');
    const course = courseOf(readMetrics(join(run.root, 'metrics.jsonl')));
    const isMixed = course.some(({ event }) => event === 'mixed');
    return [
      ...workerLines(workersOf(course)),
      ...(counters ? [`counters ${counters}`] : []),
      ...(isMixed ? ['mixed    workers of other bit classes took part: the digest is not exact'] : []),
    ];
  }

  async end(reason: EndReason): Promise<void> {
    clearInterval(this.#throughputTimer);
    this.#events?.flush();
    this.#events = undefined;
    this.#refusals?.flush();
    this.#flushLines();
    // Everybody leaves now, which is no news.
    this.#report = () => {};
    this.#withdraw();
    await this.#engine?.close(reason);
    await this.#server?.close(END_REASONS[reason]);
  }

  #advertise(access: Access, run: string): () => void {
    const { host, plain } = this.command;
    if (!this.#server || isLoopback(host)) return () => {};
    const fingerprint = plain ? undefined : access.fingerprint;
    const advertisement = advertise({
      port: this.#server.port,
      host: hostname(),
      run,
      fingerprint,
      version: version(),
    });
    return () => void advertisement.stop();
  }
}

/** Throws LT_USAGE_BATCH where one worker's share of a step, ids and targets, could be more than a message. */
function checkMessages({ model, options }: RunConfig): void {
  const bytes = tokenBytes(model.vocabSize, options.batch * model.context);
  if (bytes > MAX_TOKEN_BYTES)
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `a cluster's step has at most ${Math.floor((MAX_TOKEN_BYTES * options.batch) / bytes)} sequences of ${model.context} tokens; lower --batch`,
    );
}

/**
 * What the run's last coordinator left at `path`. What lies at the path of a new run is another's, who was faster. Throws
 * as `readIncarnation`.
 */
export async function lastStart(
  path: string,
  isResumed: boolean,
): Promise<{
  readonly incarnation: number;
  readonly port: number | undefined;
}> {
  if (!isResumed) return { incarnation: 0, port: undefined };
  const folder = join(path, ACCESS_FOLDER);
  return { incarnation: await readIncarnation(folder), port: await readPort(folder) };
}

/** None where there are no metrics that can be read, which is told of when the run begins. */
function firstStepsOf(path: string, from: number): ReadonlyMap<string, number> {
  try {
    return firstStepsIn(readMetricsLines(join(path, 'metrics.jsonl')), from);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return new Map();
  }
}

/** A pong is life: a worker that computes for long says nothing else, and five seconds of silence can fence it. */
const LIFE = { pingMs: 1_000, missedPings: 30 };

/** Workers that a line names; the rest is counted. */
const MOST_NAMED = 5;

function namesOf(engine: ClusterEngine, workers: readonly number[]): string {
  const names = workers.slice(0, MOST_NAMED).map((worker) => engine.nameOf(worker));
  return [...names, ...(workers.length > MOST_NAMED ? [`${workers.length - MOST_NAMED} more`] : [])].join(', ');
}

/** Notes that are no metrics events and yet tell of work that was done again, with what to say of them. */
const RETRIES: Readonly<Record<string, string>> = {
  stale: '',
  audit: '',
  late: 'its work was dealt to another worker as well',
  refuted: 'it refused what others have computed',
  unfence: 'works again in the same step',
  unaudited: 'used unaudited: there is no second worker of its bit class',
};

/** The metrics event of a note, for those notes that are events. */
function eventOf(note: RoundNote, step: number, engine: ClusterEngine) {
  const worker = 'worker' in note && note.worker !== undefined ? engine.nameOf(note.worker) : undefined;
  switch (note.note) {
    case 'join':
      return { event: 'join', step, worker, reason: `bit class ${note.bitClass}` } as const;
    case 'mixed':
      return {
        event: 'mixed',
        step,
        worker,
        reason: `bit class ${note.bitClass}, the owner's is ${engine.options.ownClass.name}: the digest is not exact from here`,
      } as const;
    case 'awaited':
      return {
        event: 'awaited',
        step,
        worker: namesOf(engine, note.workers),
        reason: `for ${formatDuration(note.waitedMs / 1000)}`,
      } as const;
    case 'leave':
    case 'fence':
    case 'refuse':
      return { event: note.note, step, worker, reason: note.reason } as const;
    default:
      return undefined;
  }
}

function lineOf(note: RoundNote, engine: ClusterEngine): string | undefined {
  switch (note.note) {
    case 'waiting':
      return 'waiting for workers';
    case 'going-on':
      return 'going on';
    case 'audit':
      return `audit    ${engine.nameOf(note.worker)}, bucket ${note.bucket}: ${note.reason}`;
    default:
      return undefined;
  }
}
