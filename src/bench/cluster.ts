import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type Access, loadOrCreateAccess } from '../../cluster/access/access.js';
import { formatJoinUrl, parseJoinUrl } from '../../cluster/access/join-url.js';
import { ClusterEngine } from '../../cluster/coordinator/engine.js';
import type { RemoteWorker } from '../../cluster/coordinator/members.js';
import { END_REASONS, PROBE_NONCE_BYTES } from '../../cluster/protocol/protocol.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import { joinLines, ownAddress } from '../cli/joining.js';
import { loadingBar } from '../cli/loading.js';
import { printLine, remarkLine } from '../cli/output.js';
import { type Dataset, openDataset } from '../data/dataset.js';
import { loadTokenizer } from '../data/tokenizer.js';
import { Windows } from '../data/windows.js';
import { LantrainError } from '../errors.js';
import { checkWritableFile, writeText } from '../files/atomic.js';
import type { Gpu } from '../gpu/device.js';
import type { MicroBatch } from '../model/gpt.js';
import { parameterCount } from '../model/parameters.js';
import { defaultPlan } from '../model/plan.js';
import { openGpu } from '../node/open-gpu.js';
import { describeAdapter } from '../node/processor.js';
import { loadShaders } from '../node/shaders.js';
import { version } from '../node/version.js';
import { type ClusterBar, clusterPlot } from '../report/cluster-plot.js';
import { formatCount } from '../report/format.js';
import { adamwOf } from '../run/prepare.js';
import { microBatches } from '../train/batches.js';
import { initializeWeights } from '../train/engine.js';
import type { PresetName, TrainOptions } from '../train/options.js';
import { measureIntake } from './intake.js';
import { Child, Lobby } from './lobby.js';
import { type BenchShape, benchShape, describeShape, median, randomBatches } from './shape.js';
import { type Said, stepParts } from './step-parts.js';
import { rounded } from './train.js';

export interface BenchClusterCommand {
  readonly preset: PresetName;
  readonly explicit: Partial<TrainOptions>;
  /** Numbers of workers, ascending. */
  readonly workers: readonly number[];
  /** Timed steps of a setting; chosen by time when absent. */
  readonly steps?: number;
  /** Steps before them. */
  readonly skip: number;
  /** Wait for workers from other machines here, instead of starting some. */
  readonly listen?: { readonly host: string; readonly port: number };
  readonly plain: boolean;
  readonly adapter?: string;
  readonly json?: boolean;
  readonly svg?: string;
  readonly intake: boolean;
}

export type Scaling = 'train' | 'alone' | 'strong' | 'weak';

/** One line of `--json`. Times are of a step, bytes of a step and worker; of workers, the mean. */
export interface Setting {
  readonly event: 'bench-cluster';
  readonly scaling: Scaling;
  /** Names of the workers; none where one process trains by itself. */
  readonly workers: readonly string[];
  readonly batch: number;
  readonly steps: number;
  /** The median. */
  readonly stepMs: number;
  readonly tokensPerSecond: number;
  /** tokens/s together / the sum of each worker's alone. */
  readonly efficiency: number | null;
  /** What a worker's step is made of: together, `stepMs`. */
  readonly computeMs: number;
  readonly uploadMs: number;
  readonly waitMs: number;
  readonly downloadMs: number;
  /** The coordinator's own, while workers wait or compute. */
  readonly sumMs: number;
  readonly updateMs: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly bytesUpPerParameter: number;
  readonly bytesDownPerParameter: number;
  /** Shares that were taken from slow workers and computed again. */
  readonly fences: number;
}

/** The timed steps of a setting take about this long. */
const TIMED_MS = 20_000;
const FEWEST_STEPS = 3;
const MOST_STEPS = 50;
/** As the coordinator's. */
const LIFE = { pingMs: 1_000, missedPings: 30 };
const RETURN_MS = 15_000;
const LOCAL_JOIN_MS = 120_000;
const INTAKE_ROUNDS = 5;
const INTAKE_FRAMES = 200;

/** `lantrain bench cluster`: what workers bring, alone and together. Returns the exit code. */
export async function benchCluster(command: BenchClusterCommand): Promise<number> {
  if (command.svg !== undefined) checkWritableFile(command.svg);
  const bench = benchShape(command.preset, command.explicit);
  const say = command.json ? remarkLine : printLine;
  const stop = () => process.exit(130);
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    const settings: Setting[] = [];
    const measured = (setting: Setting) => {
      settings.push(setting);
      if (command.json) process.stdout.write(`${JSON.stringify(setting)}\n`);
      else say(rowOf(setting));
    };
    say(`model    ${parameterCount(bench.model).toLocaleString('en')} parameters: ${describeShape(bench)}`);
    if (command.intake) {
      const intake = await measureIntake(INTAKE_ROUNDS, INTAKE_FRAMES);
      if (command.json) process.stdout.write(`${JSON.stringify({ event: 'bench-intake', ...intake })}\n`);
      say(
        `intake   ${intake.sumGBs} GB/s of packed gradients checked, unpacked and summed; ws alone moves ` +
          `${intake.wsGBs} (${percent(intake.share)})`,
      );
    }
    await new ClusterBench(command, bench, say, measured).run();
    if (command.svg !== undefined) await writeText(command.svg, clusterPlot(settings.map(barOf), titleOf(bench)));
    return 0;
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

class ClusterBench {
  readonly #lobby = new Lobby();
  readonly #parameters: number;
  readonly #alone = new Map<string, number>();
  #incarnation = 0;
  #server: ClusterServer | undefined;
  #data: Dataset | undefined;

  constructor(
    readonly command: BenchClusterCommand,
    readonly bench: BenchShape,
    readonly say: (line: string) => void,
    readonly measured: (setting: Setting) => void,
  ) {
    this.#parameters = parameterCount(bench.model);
  }

  async run(): Promise<void> {
    const { command, bench, say } = this;
    const adapter = await this.#withGpu((gpu) => gpu.adapter);
    const cores = availableParallelism();
    say(`adapter  ${describeAdapter(adapter)}`);
    const [load] = loadavg();
    if (load > 0.5) say(`busy     the load is ${load.toFixed(1)} on ${cores} cores before anything is measured`);
    const { data } = command.explicit;
    if (data !== undefined) {
      const tokenizer = await loadTokenizer(bench.options.tokenizer);
      const { vocabSize } = bench.model;
      this.#data = await openDataset({ source: data, tokenizer, vocabSize, valRatio: bench.options.valRatio });
    }
    const isLocal = command.listen === undefined;
    const most = command.workers[command.workers.length - 1];
    const core = (index: number) => (adapter.software ? index : undefined);
    try {
      this.#server = await this.#listen();
      say(HEAD);
      if (isLocal) await this.#train(core(0));
      const names = isLocal ? Array.from({ length: most }, (_, i) => `worker-${i + 1}`) : await this.#gather(most);
      const { batch } = bench.options;
      const measure = (scaling: Scaling, some: readonly string[], sequences: number) => {
        const cores = some.map((name) => core(names.indexOf(name)));
        return this.#measure(scaling, some, sequences, isLocal ? cores : undefined);
      };
      for (const name of names) await measure('alone', [name], batch);
      for (const count of command.workers) {
        if (count === 1) continue;
        await measure('strong', names.slice(0, count), batch);
        await measure('weak', names.slice(0, count), count * batch);
      }
      // They come back after each setting; those who are here are told that it was the last.
      const isBack = (waiting: readonly string[]) => names.every((name) => waiting.includes(name));
      if (!isLocal) await this.#lobby.until(isBack, RETURN_MS, new Promise<never>(() => {})).catch(() => {});
    } finally {
      this.#lobby.dismiss();
      await this.#server?.close(END_REASONS.done);
      this.#data?.close();
    }
  }

  /** A device is given back at once: its memory is needed again. */
  async #withGpu<T>(use: (gpu: Gpu) => T | Promise<T>): Promise<T> {
    const gpu = await openGpu(this.command.adapter);
    try {
      return await use(gpu);
    } finally {
      gpu.device.destroy();
    }
  }

  async #listen(): Promise<ClusterServer> {
    const { host, port } = this.command.listen ?? { host: '127.0.0.1', port: 0 };
    const folder = await mkdtemp(join(tmpdir(), 'lantrain-bench-'));
    let access: Access;
    try {
      access = await loadOrCreateAccess(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    const { plain } = this.command;
    const server = await ClusterServer.listen({
      host,
      port,
      token: access.token,
      tls: plain ? undefined : access,
      allowPlain: plain,
      version: version(),
      limits: LIFE,
      onConnection: this.#lobby.enter,
    });
    return server;
  }

  get #listening(): ClusterServer {
    if (this.#server === undefined) throw new Error('the server does not listen yet');
    return this.#server;
  }

  /** Workers of other machines, as many as are asked for. */
  async #gather(count: number): Promise<string[]> {
    const { host } = this.command.listen ?? { host: '127.0.0.1' };
    const { host: shown, remark } = await ownAddress(host);
    const lines = joinLines(this.#listening.joinUrl(shown), shown, this.command.plain);
    for (const line of [...lines, ...(remark ? [remark] : [])]) this.say(line);
    this.say(`waiting  for ${count} workers`);
    await this.#lobby.until((names) => names.length >= count, 0, new Promise<never>(() => {}));
    return this.#lobby.names.slice(0, count);
  }

  /** One process without a network: the same shape on what one worker has. */
  async #train(core: number | undefined): Promise<void> {
    const { options } = this.bench;
    const shape = (
      ['layers', 'heads', 'width', 'context', 'batch', 'dropout', 'clip', 'tokenizer', 'seed'] as const
    ).flatMap((name) => [`--${name}`, String(options[name])]);
    const flags = [options.tie ? '--tie' : '--no-tie', options.qkvBias ? '--qkv-bias' : '--no-qkv-bias'];
    const more = ['--micro-batch', String(options.microBatch), ...flags];
    if (this.command.steps !== undefined) more.push('--steps', String(this.command.steps));
    if (this.command.adapter !== undefined) more.push('--adapter', this.command.adapter);
    const child = new Child({ args: ['bench', 'train', '--json', ...shape, ...more], core });
    const { stepMs, tokensPerSecond } = JSON.parse(await child.output());
    this.measured({
      ...NOTHING,
      scaling: 'train',
      workers: [],
      batch: options.batch,
      steps: this.command.steps ?? 0,
      stepMs,
      tokensPerSecond,
      computeMs: stepMs,
    });
  }

  /** `cores`: of the workers to start for it; absent, they wait in the lobby. */
  async #measure(
    scaling: Scaling,
    names: readonly string[],
    batch: number,
    cores: readonly (number | undefined)[] | undefined,
  ): Promise<void> {
    const { token, ...url } = parseJoinUrl(this.#listening.joinUrl('127.0.0.1'));
    const { plain, adapter } = this.command;
    const children = (cores ?? []).map((core, i) => {
      const more = [...(adapter === undefined ? [] : ['--adapter', adapter]), ...(plain ? ['--plain'] : [])];
      const args = ['worker', formatJoinUrl(url), '--name', names[i], '--quiet', '--patience', '30', ...more];
      return new Child({ args, core, token });
    });
    const failed = Promise.race([new Promise<never>(() => {}), ...children.map((child) => child.failed())]);
    failed.catch(() => {});
    try {
      const timeout = cores === undefined ? 0 : LOCAL_JOIN_MS;
      await this.#lobby.until((waiting) => names.every((name) => waiting.includes(name)), timeout, failed);
      await this.#withGpu((gpu) => this.#measureOn(gpu, scaling, names, batch, failed));
    } finally {
      await Promise.all(children.map((child) => child.kill()));
    }
  }

  async #measureOn(gpu: Gpu, scaling: Scaling, names: readonly string[], batch: number, failed: Promise<never>) {
    const { command } = this;
    const bench = { ...this.bench, options: { ...this.bench.options, batch } };
    const { options, model, shape } = bench;
    const tokensPerStep = batch * model.context;
    let fences = 0;
    let leave: (error: LantrainError) => void = () => {};
    const left = new Promise<never>((_, reject) => {
      leave = reject;
    });
    left.catch(() => {});
    const engine = await ClusterEngine.create(gpu, loadShaders(), {
      model,
      shape,
      plan: defaultPlan(gpu.adapter),
      adamw: adamwOf(options),
      clip: options.clip,
      seed: options.seed,
      microBatches: batch / shape.batch,
      tokensPerStep,
      version: 0,
      incarnation: ++this.#incarnation,
      minWorkers: names.length,
      exact: false,
      audit: 0,
      // Whoever comes computes; nobody confirms anything here.
      ownClass: { name: 'bench', nonce: new Uint8Array(PROBE_NONCE_BYTES), salted: { reference: '', run: '' } },
      ownerComputes: false,
      onNote: (note) => {
        if (note.note === 'fence') fences++;
        if (note.note === 'leave') leave(new LantrainError('LT_CLUSTER_WORKER', `a worker left: ${note.reason}`));
      },
    });
    const members: RemoteWorker[] = [];
    try {
      initializeWeights(engine, options.weights, options.seed);
      for (const name of names) this.#lobby.admit(name, engine);
      members.push(...engine.members.values());
      const batches = this.#batches(bench);
      let number = 0;
      const step = async () => {
        const began = performance.now();
        number++;
        const took = engine.step(batches(number), number, options.seed, options.lr);
        took.catch(() => {});
        await Promise.race([took, failed, left]);
        return performance.now() - began;
      };
      let lastMs = 0;
      for (let i = 0; i < command.skip; i++) lastMs = await step();
      const steps = command.steps ?? Math.min(MOST_STEPS, Math.max(FEWEST_STEPS, Math.floor(TIMED_MS / lastMs)));
      const progress = loadingBar(`${scaling}: ${names.join(', ')}`);
      await haveTold(members);
      const before = countersOf(engine, members);
      const times: number[] = [];
      const said: Said[] = [];
      for (let i = 0; i < steps; i++) {
        if (process.stderr.isTTY) progress(i, steps);
        const told = countersOf(engine, members);
        times.push(await step());
        await haveTold(members);
        said.push(saidBetween(told, countersOf(engine, members), members.length));
      }
      if (process.stderr.isTTY) progress(steps, steps);
      const after = countersOf(engine, members);
      const stepMs = median(times);
      const tokensPerSecond = (1000 * tokensPerStep) / stepMs;
      if (scaling === 'alone') this.#alone.set(names[0], tokensPerSecond);
      const sum = names.reduce((total, name) => total + (this.#alone.get(name) ?? Number.NaN), 0);
      const each = (key: keyof Counters) => (after[key] - before[key]) / steps / members.length;
      this.measured({
        ...NOTHING,
        scaling,
        workers: names,
        batch,
        steps,
        stepMs: rounded(stepMs, 2),
        tokensPerSecond: rounded(tokensPerSecond, 2),
        efficiency: scaling === 'alone' ? null : rounded(tokensPerSecond / sum, 4),
        ...stepParts(stepMs, said),
        sumMs: rounded(each('sumMs') * members.length, 2),
        updateMs: rounded(each('updateMs') * members.length, 2),
        bytesUp: Math.round(each('bytesUp')),
        bytesDown: Math.round(each('bytesDown')),
        bytesUpPerParameter: rounded(each('bytesUp') / this.#parameters, 3),
        bytesDownPerParameter: rounded(each('bytesDown') / this.#parameters, 3),
        fences,
      });
    } finally {
      await engine.close('next-measurement');
      for (const { connection } of members)
        connection.close(new LantrainError('LT_CLUSTER_CLOSED', 'the next measurement begins'));
    }
  }

  /** The micro-batches of a step (1 is the first): of the data, or random tokens, new ones each step. */
  #batches(bench: BenchShape): (step: number) => MicroBatch[] {
    const { options, model, shape } = bench;
    const data = this.#data;
    if (data === undefined)
      return (step) => randomBatches({ ...bench, options: { ...options, seed: options.seed + step } });
    const { batch, shuffle, seed } = options;
    const { context } = model;
    const windows = new Windows({
      tokens: data.train.length,
      context,
      stride: options.stride || context,
      batch,
      shuffle,
      seed,
    });
    return (step) => microBatches(data.train, windows.startsOf(step - 1), model.context, shape.batch);
  }
}

/** A worker tells of a step after it has sent the last of it, which can be after the step's end. */
const TELL_MS = 100;

async function haveTold(members: readonly RemoteWorker[]): Promise<void> {
  const end = performance.now() + TELL_MS;
  while (members.some(({ doing }) => doing.kind !== 'nothing') && performance.now() < end)
    await new Promise((go) => setTimeout(go, 1));
}

type Counters = ReturnType<typeof countersOf>;

function countersOf(engine: ClusterEngine, members: readonly RemoteWorker[]) {
  const total = (value: (member: RemoteWorker) => number) => members.reduce((sum, member) => sum + value(member), 0);
  return {
    computeMs: total((m) => m.totals.computeMs),
    uploadMs: total((m) => m.totals.uploadMs),
    downloadMs: total((m) => m.totals.downloadMs),
    bytesUp: total((m) => m.connection.stats.bytesIn),
    bytesDown: total((m) => m.connection.stats.bytesOut),
    sumMs: engine.times.sum.milliseconds,
    updateMs: engine.times.update.milliseconds,
  };
}

/** Of a step, the mean of its workers. */
function saidBetween(before: Counters, after: Counters, workers: number): Said {
  const each = (key: keyof Said) => (after[key] - before[key]) / workers;
  return { computeMs: each('computeMs'), uploadMs: each('uploadMs'), downloadMs: each('downloadMs') };
}

const NOTHING = {
  event: 'bench-cluster',
  efficiency: null,
  uploadMs: 0,
  waitMs: 0,
  downloadMs: 0,
  sumMs: 0,
  updateMs: 0,
  bytesUp: 0,
  bytesDown: 0,
  bytesUpPerParameter: 0,
  bytesDownPerParameter: 0,
  fences: 0,
} as const;

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

function labelOf({ scaling, workers }: Setting): string {
  if (scaling === 'train') return 'train, no network';
  if (scaling === 'alone') return `${workers[0]} alone`;
  return `${workers.length} workers, ${scaling === 'strong' ? 'same' : 'larger'} batch`;
}

const COLUMNS = [-26, 6, 9, 10, 9, 9, 8, 8, 10, 8, 8, 9, 8] as const;

function columns(cells: readonly string[]): string {
  return cells
    .map((cell, i) => (COLUMNS[i] < 0 ? cell.padEnd(-COLUMNS[i]) : cell.padStart(COLUMNS[i])))
    .join('')
    .trimEnd();
}

const HEAD = [
  columns(['a step, milliseconds', '', '', '', '', 'worker:', '', '', '', 'coord.:', '', 'MB a', 'worker']),
  columns('setting|batch|step|tokens/s|effic.|compute|upload|wait|download|sum|update|up|down'.split('|')),
].join('\n');

function rowOf(s: Setting): string {
  const ms = (value: number) => (s.scaling === 'train' && value === 0 ? '' : value.toFixed(value < 100 ? 1 : 0));
  const mb = (bytes: number) => (s.scaling === 'train' ? '' : (bytes / 1e6).toFixed(2));
  const note = s.fences > 0 ? `   (${s.fences} shares taken away)` : '';
  const cells = [
    labelOf(s),
    String(s.batch),
    ms(s.stepMs),
    s.tokensPerSecond.toFixed(s.tokensPerSecond < 100 ? 1 : 0),
    s.efficiency === null ? '' : percent(s.efficiency),
    ...[s.computeMs, s.uploadMs, s.waitMs, s.downloadMs, s.sumMs, s.updateMs].map(ms),
    mb(s.bytesUp),
    mb(s.bytesDown),
  ];
  return columns(cells) + note;
}

function barOf(s: Setting): ClusterBar {
  const efficiency = s.efficiency === null ? '' : `, ${percent(s.efficiency)}`;
  return {
    label: labelOf(s),
    figures: `${formatCount(s.tokensPerSecond)} tokens/s${efficiency}`,
    worker: { compute: s.computeMs, upload: s.uploadMs, wait: s.waitMs, download: s.downloadMs },
    coordinator: { sum: s.sumMs, update: s.updateMs },
  };
}

function titleOf(bench: BenchShape): string {
  const { model, options } = bench;
  return (
    `${parameterCount(model).toLocaleString('en')} parameters, context ${model.context}, ` +
    `batch ${options.batch} in micro-batches of ${bench.shape.batch}`
  );
}
