import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { ACCESS_FOLDER } from '../src/checkpoint/tree.js';
import { LantrainError } from '../src/errors.js';
import { isSystemError } from '../src/files/files.js';
import { gridWords } from '../src/model/grid.js';
import type { ParameterLayout } from '../src/model/layout.js';
import type { Wire } from '../src/model/wire.js';
import {
  type Access,
  certificateWarning,
  loadOrCreateAccess,
  readIncarnation,
  readPort,
  saveIncarnation,
  savePort,
} from '../src/net/access.js';
import { hexFingerprint } from '../src/net/join-url.js';
import { checkAddress } from '../src/net/listening.js';
import { isLoopback } from '../src/net/loopback.js';
import { availableMemory } from '../src/node/memory.js';
import { openGpu } from '../src/node/open-gpu.js';
import { loadShaders } from '../src/node/shaders.js';
import { version } from '../src/node/version.js';
import { firstStepsIn } from '../src/report/exactness.js';
import { readMetricsLines, type WorkersEvent } from '../src/report/metrics.js';
import type { Ending, RunBackend, StartedRun } from '../src/run/backend.js';
import type { ListeningEvent } from '../src/run/events.js';
import type { BytesByUse } from '../src/run/header.js';
import type { TrainingJob } from '../src/run/prepare.js';
import { engineOptions, microBatchShape } from '../src/run/resolve.js';
import { noting, progressing, type Tell } from '../src/run/tell.js';
import type { RunConfig } from '../src/train/run-config.js';
import { WATCH_PATH } from '../src/watch/messages.js';
import { serveSite } from '../src/watch/server/site.js';
import { ClusterEngine } from './coordinator/engine.js';
import { clusterSource } from './coordinator/live-source.js';
import { mostWords } from './exchange/blocks.js';
import { ClusterNews } from './news.js';
import { refusalsOf, secretsOf, siteFolder, watchEvent, watchersOf } from './page.js';
import { END_REASONS, PROBE_NONCE_BYTES } from './protocol/protocol.js';
import { MAX_TOKEN_BYTES, windowBytes } from './protocol/tokens.js';
import type { Refusals } from './refusals.js';
import { Throughput } from './throughput.js';
import { advertise } from './transport/discovery.js';
import { COORDINATOR_LIFE, DEFAULT_LIMITS } from './transport/limits.js';
import { DEFAULT_PORT, listenOn, type Ports, portsFor, throwIfTaken } from './transport/listen-port.js';
import { ClusterServer } from './transport/server.js';
import { isAny, ownAddress } from './transport/shown-address.js';
import { ownBitClass, type ProbedClass } from './worker/bit-class.js';

/** What a coordinator is told in addition to the run's own options. */
export interface ClusterSettings {
  readonly host: string;
  /** 0 takes a free port; absent, the default port or the next free one. */
  readonly port?: number;
  readonly minWorkers: number;
  readonly exact: boolean;
  readonly audit: number;
  /** Allows ws without TLS on addresses that other machines reach. */
  readonly plain: boolean;
  readonly cert?: string;
  readonly key?: string;
  readonly adapter?: string;
  /** The run has begun before. */
  readonly isResumed: boolean;
}

/** Counters that are zero in a run without trouble; only those above zero are reported. */
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

/** Owns the state and takes the steps of a run; workers that join compute them. */
export class ClusterBackend implements RunBackend {
  #engine: ClusterEngine | undefined;
  #server: ClusterServer | undefined;
  #withdraw: () => void = () => {};
  /** Absent before the run begins and after it ends: the departures at the end are no news. */
  #news: ClusterNews | undefined;
  #refusals: Refusals | undefined;
  /** Why the owner's adapter cannot compute, as far as it was said before the run began. */
  readonly #unable: string[] = [];
  #sayUnable: (text: string) => void = (text) => void this.#unable.push(text);
  #incarnation = 1;
  #from = 0;
  #ports: Ports = portsFor(0, undefined);
  readonly #throughput = new Throughput();
  #throughputTimer: NodeJS.Timeout | undefined;

  constructor(readonly settings: ClusterSettings) {}

  get audits(): boolean {
    return this.settings.audit > 0;
  }

  /** Upper bound of host memory in bytes: packed differences are seldom as wide as assumed here. */
  hostMemory(layout: ParameterLayout, wire: Wire): BytesByUse {
    const most = (values: number) => (wire === 'low' ? mostMoveBytes(values) : 4 * mostWords(values, 'differences'));
    const updates = layout.buckets().reduce((sum, { size }) => sum + most(size), 0);
    return { sums: 8 * layout.allocatedValues, updates, receiving: DEFAULT_LIMITS.receivePoolBytes };
  }

  async create(job: TrainingJob, from: number, path: string, tell: Tell): Promise<ClusterEngine> {
    const { config, gpu } = job;
    const { options, model } = config;
    const { host, port, minWorkers, exact, audit, isResumed } = this.settings;
    const last = await lastStart(path, isResumed);
    this.#incarnation = last.incarnation + 1;
    this.#from = from;
    // Checked first: what follows takes long.
    this.#ports = portsFor(port, last.port);
    await listenOn(host, this.#ports, (one) => checkAddress(host, one));
    checkMessages(config);
    const { plan, remark, ...ownClass } = await this.#bitClass(job, tell);
    if (remark !== undefined) noting(tell)(remark);
    this.#engine = await ClusterEngine.create(gpu, loadShaders(), {
      ...engineOptions(config, microBatchShape(config), plan),
      seed: options.seed,
      tokensPerStep: options.batch * model.context,
      version: from,
      incarnation: this.#incarnation,
      minWorkers,
      exact,
      audit,
      ownClass,
      availableBytes: () => availableMemory(gpu.adapter),
      // Steps after `from` are computed again, so their contributions do not count.
      firstSteps: isResumed ? firstStepsOf(path, from) : undefined,
      onNote: (note, step) => this.#news?.tell(note, step),
      onOwnerUnable: (reason) => this.#sayUnable(`the adapter here cannot confirm what workers compute: ${reason}`),
    });
    if (this.audits) await this.#engine.prepareOwner(progressing(tell, 'compiling the kernels that confirm workers'));
    return this.#engine;
  }

  /** By a device of its own, so that its memory is free again before the owner's is taken. */
  async #bitClass({ config, plan }: TrainingJob, tell: Tell): Promise<ProbedClass> {
    const gpu = await openGpu(this.settings.adapter);
    try {
      const shape = { model: config.model, plan, shape: microBatchShape(config) };
      const nonce = randomBytes(PROBE_NONCE_BYTES);
      return await ownBitClass(gpu, loadShaders(), shape, nonce, progressing(tell, 'compiling the kernels'));
    } finally {
      gpu.device.destroy();
    }
  }

  /** How long the current step may still take once the end is asked for. */
  readonly patienceMs = 30_000;

  async begin(started: StartedRun): Promise<void> {
    const { run, journal, tell } = started;
    const engine = this.#engine as ClusterEngine;
    const { cert, key, plain, minWorkers, host } = this.settings;
    const folder = join(run.root, ACCESS_FOLDER);
    const access = await loadOrCreateAccess(folder, { cert, key });
    if (access.remark !== undefined) noting(tell)(`access   ${access.remark}`);
    await saveIncarnation(folder, this.#incarnation);
    this.#news = new ClusterNews(engine, started);
    this.#sayUnable = (text) => journal.mention('audit', text);
    for (const text of this.#unable.splice(0)) this.#sayUnable(text);
    if (this.#incarnation > 1)
      journal.record({ event: 'resume', step: this.#from, reason: `incarnation ${this.#incarnation}` });
    journal.telemetry.live = clusterSource(engine);
    const server = await this.#listen(started, access);
    await savePort(folder, server.port);
    this.#withdraw = this.#advertise(server, access, basename(run.path));
    const { host: shown, remark } = await ownAddress(host);
    const warning = plain ? undefined : certificateWarning(access.certificate);
    const listening: ListeningEvent = {
      event: 'listening',
      url: server.joinUrl(shown),
      localUrl: server.joinUrl(isAny(host) ? '127.0.0.1' : host),
      host: shown,
      port: server.port,
      plain,
      ...(remark === undefined ? {} : { remark }),
      isOtherPort: this.settings.port === undefined && server.port !== DEFAULT_PORT && !this.#ports.isKept,
      ...(plain ? {} : { fingerprint: hexFingerprint(access.fingerprint) }),
      ...(warning === undefined ? {} : { warning }),
      minWorkers,
      software: engine.gpu.adapter.software,
    };
    tell(listening);
    const watch = watchEvent(shown, server.port, !plain, secretsOf(access, !plain), folder);
    if (!isLoopback(shown)) journal.telemetry.address = watch.address;
    tell(watch);
    this.#throughputTimer = setInterval(() => {
      const event = this.#throughput.take(engine.members.values());
      if (event) tell(event);
    }, THROUGHPUT_MS);
  }

  async #listen(started: StartedRun, access: Access): Promise<ClusterServer> {
    const engine = this.#engine as ClusterEngine;
    const { host, plain } = this.settings;
    const refusals = refusalsOf(started);
    this.#refusals = refusals;
    this.#server = await listenOn(host, this.#ports, async (port) => {
      // A socket for IPv6 may not notice that the port is taken for IPv4.
      if (port > 0 && host === '::') await checkAddress('0.0.0.0', port).catch(throwIfTaken);
      return ClusterServer.listen({
        host,
        port,
        token: access.token,
        tls: plain ? undefined : access,
        limits: COORDINATOR_LIFE,
        allowPlain: plain,
        version: version(),
        onRequest: serveSite(siteFolder()),
        upgrades: new Map([[WATCH_PATH, watchersOf(started, secretsOf(access, !plain), refusals)]]),
        onConnection: (connection) => engine.admit(connection),
        onRefused: (error, peer) => refusals.add(error, peer),
      });
    });
    return this.#server;
  }

  drop(worker: number): string | false {
    return this.#engine?.drop(worker) ?? false;
  }

  workers(step: number): WorkersEvent {
    // Events are written before the checkpoint that they belong to.
    this.#news?.flushEvents();
    const news = this.#engine?.credits.tally.takeNews() ?? [];
    return { event: 'workers', step, workers: news.map((total) => ({ ...total })) };
  }

  counters(): Readonly<Record<string, number>> {
    const counted = Object.entries(this.#engine?.counters ?? {});
    return Object.fromEntries(counted.filter(([name, count]) => REMARKABLE.has(name) && count > 0));
  }

  async end(how: Ending): Promise<void> {
    clearInterval(this.#throughputTimer);
    this.#news?.flushEvents();
    this.#refusals?.flush();
    this.#news?.flush();
    this.#news = undefined;
    this.#withdraw();
    await this.#engine?.close(how);
    await this.#server?.close(END_REASONS[how]);
  }

  #advertise(server: ClusterServer, access: Access, run: string): () => void {
    const { host, plain } = this.settings;
    if (isLoopback(host)) return () => {};
    const fingerprint = plain ? undefined : access.fingerprint;
    const { port } = server;
    const advertisement = advertise({ port, host: hostname(), run, fingerprint, version: version() });
    return () => void advertisement.stop();
  }
}

/**
 * Throws LT_USAGE_BATCH if the windows of a whole step do not fit into one message: one worker may be dealt all
 * of them.
 */
function checkMessages({ model, options }: RunConfig): void {
  const most = Math.floor(MAX_TOKEN_BYTES / windowBytes(model));
  if (options.batch > most)
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `a cluster's step has at most ${most} sequences of ${model.context} tokens; lower --batch`,
    );
}

/** The largest update of a bucket in the low wire (docs/low-wire.md): half a byte a value, the grid, and words in front. */
function mostMoveBytes(values: number): number {
  const blocks = Math.ceil(values / 128);
  return 4 * (4 + gridWords(values) + Math.ceil(blocks / 8)) + 64 * blocks;
}

/**
 * What the run's last coordinator left at `path`. Nothing is read for a new run: files at its path belong to another
 * process that was faster. Throws what `readIncarnation` throws.
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

/**
 * By person, the first step to which it contributed. Empty if the metrics cannot be read; the run reports that when it
 * begins.
 */
function firstStepsOf(path: string, from: number): ReadonlyMap<string, number> {
  try {
    return firstStepsIn(readMetricsLines(join(path, 'metrics.jsonl')), from);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return new Map();
  }
}
