import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { END_REASONS } from '../../cluster/protocol/protocol.js';
import { COORDINATOR_LIFE } from '../../cluster/transport/limits.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import { ownAddress } from '../../cluster/transport/shown-address.js';
import { type Dataset, openDataset } from '../data/dataset.js';
import { loadTokenizer } from '../data/tokenizer.js';
import { checkWritableFile, writeText } from '../files/atomic.js';
import type { Gpu } from '../gpu/device.js';
import { parameterCount } from '../model/parameters.js';
import { type Access, loadOrCreateAccess } from '../net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../net/join-url.js';
import { openGpu } from '../node/open-gpu.js';
import { describeAdapter } from '../node/processor.js';
import { version } from '../node/version.js';
import { argumentsOf, type Given, type OptionTable } from '../train/option-table.js';
import { TRAIN_OPTION_NAMES, TRAIN_OPTIONS } from '../train/options.js';
import { Child } from './child.js';
import { measureSetting } from './cluster-setting.js';
import { barOf, HEAD, NOTHING, rowOf, type Scaling, type Setting, titleOf } from './cluster-table.js';
import { percent, rounded } from './figures.js';
import { type Intake, measureIntake } from './intake.js';
import type { BenchRequest, Progress } from './request.js';
import { type BenchShape, benchShape, describeShape } from './shape.js';
import { WaitingWorkers } from './waiting-workers.js';

export interface ClusterBenchRequest extends Omit<BenchRequest, 'plan'> {
  /** Numbers of workers, ascending. */
  readonly workers: readonly number[];
  /** Untimed steps at the start. */
  readonly skip: number;
  /** Address to wait on for workers of other machines. Absent: workers are started on this machine. */
  readonly listen?: { readonly host: string; readonly port: number };
  readonly plain: boolean;
  readonly svg?: string;
  readonly intake: boolean;
}

/** The outputs of the benchmark. */
export interface ClusterBenchOutput {
  /** A result, for programs. */
  readonly event: (event: Setting | ({ readonly event: 'bench-intake' } & Intake)) => void;
  /** A row of the table of settings, for people. */
  readonly row: (text: string) => void;
  /** Other lines, for people. */
  readonly line: (text: string) => void;
  readonly progress: Progress;
  /** Lines with the command for another machine, which reaches this one at `host`. */
  readonly joinLines: (url: string, host: string) => readonly string[];
}

const RETURN_MS = 15_000;
const LOCAL_JOIN_MS = 120_000;
const INTAKE_ROUNDS = 5;
const INTAKE_FRAMES = 200;

/** `lantrain bench cluster`: measures the speed of workers, alone and together. */
export async function benchCluster(request: ClusterBenchRequest, output: ClusterBenchOutput): Promise<void> {
  if (request.svg !== undefined) checkWritableFile(request.svg);
  const bench = benchShape(request.preset, request.explicit);
  const settings: Setting[] = [];
  output.line(`model    ${parameterCount(bench.model).toLocaleString('en')} parameters: ${describeShape(bench)}`);
  if (request.intake) {
    const intake = await measureIntake(INTAKE_ROUNDS, INTAKE_FRAMES);
    output.event({ event: 'bench-intake', ...intake });
    output.line(
      `intake   ${intake.sumGBs} GB/s of packed gradients checked, unpacked and summed; ws alone moves ` +
        `${intake.wsGBs} (${percent(intake.share)})`,
    );
  }
  await new ClusterBench(request, bench, output, (setting) => {
    settings.push(setting);
    output.event(setting);
    output.row(rowOf(setting));
  }).run();
  if (request.svg === undefined) return;
  const { clusterPlot } = await import('../report/cluster-plot.js');
  await writeText(request.svg, clusterPlot(settings.map(barOf), titleOf(bench)));
}

class ClusterBench {
  readonly #waiting = new WaitingWorkers();
  readonly #alone = new Map<string, number>();
  #incarnation = 0;
  #server: ClusterServer | undefined;
  #data: Dataset | undefined;

  constructor(
    readonly request: ClusterBenchRequest,
    readonly bench: BenchShape,
    readonly output: ClusterBenchOutput,
    readonly measured: (setting: Setting) => void,
  ) {}

  async run(): Promise<void> {
    const { request, bench } = this;
    const say = this.output.line;
    const adapter = await this.#withGpu((gpu) => gpu.adapter);
    const cores = availableParallelism();
    say(`adapter  ${describeAdapter(adapter)}`);
    const [load] = loadavg();
    if (load > 0.5) say(`busy     the load is ${load.toFixed(1)} on ${cores} cores before anything is measured`);
    const { data } = request.explicit;
    if (data !== undefined) {
      const tokenizer = await loadTokenizer(bench.options.tokenizer);
      const { vocabSize } = bench.model;
      this.#data = await openDataset({ source: data, tokenizer, vocabSize, valRatio: bench.options.valRatio });
    }
    const isLocal = request.listen === undefined;
    const most = request.workers[request.workers.length - 1];
    const core = (index: number) => (adapter.software ? index : undefined);
    try {
      this.#server = await this.#listen();
      for (const line of HEAD) this.output.row(line);
      if (isLocal) await this.#train(core(0));
      const names = isLocal ? Array.from({ length: most }, (_, i) => `worker-${i + 1}`) : await this.#gather(most);
      const { batch } = bench.options;
      const measure = (scaling: Scaling, some: readonly string[], sequences: number) => {
        const cores = some.map((name) => core(names.indexOf(name)));
        return this.#measure(scaling, some, sequences, isLocal ? cores : undefined);
      };
      for (const name of names) await measure('alone', [name], batch);
      for (const count of request.workers) {
        if (count === 1) continue;
        await measure('strong', names.slice(0, count), batch);
        await measure('weak', names.slice(0, count), count * batch);
      }
      // Workers reconnect after each setting; then they are told that it was the last one.
      const isBack = (waiting: readonly string[]) => names.every((name) => waiting.includes(name));
      if (!isLocal) await this.#waiting.until(isBack, RETURN_MS, new Promise<never>(() => {})).catch(() => {});
    } finally {
      this.#waiting.dismiss();
      await this.#server?.close(END_REASONS.done);
      this.#data?.close();
    }
  }

  /** Runs `use` with a device, and destroys the device at once, because its memory is needed again. */
  async #withGpu<T>(use: (gpu: Gpu) => T | Promise<T>): Promise<T> {
    const gpu = await openGpu(this.request.adapter);
    try {
      return await use(gpu);
    } finally {
      gpu.device.destroy();
    }
  }

  async #listen(): Promise<ClusterServer> {
    const { host, port } = this.request.listen ?? { host: '127.0.0.1', port: 0 };
    const folder = await mkdtemp(join(tmpdir(), 'lantrain-bench-'));
    let access: Access;
    try {
      access = await loadOrCreateAccess(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    const { plain } = this.request;
    const server = await ClusterServer.listen({
      host,
      port,
      token: access.token,
      tls: plain ? undefined : access,
      allowPlain: plain,
      version: version(),
      limits: COORDINATOR_LIFE,
      onConnection: this.#waiting.add,
    });
    return server;
  }

  get #listening(): ClusterServer {
    if (this.#server === undefined) throw new Error('the server does not listen yet');
    return this.#server;
  }

  /** Waits for `count` workers of other machines and returns their names. */
  async #gather(count: number): Promise<string[]> {
    const { host } = this.request.listen ?? { host: '127.0.0.1' };
    const { host: shown, remark } = await ownAddress(host);
    const lines = this.output.joinLines(this.#listening.joinUrl(shown), shown);
    for (const line of [...lines, ...(remark ? [remark] : [])]) this.output.line(line);
    this.output.line(`waiting  for ${count} workers`);
    await this.#waiting.until((names) => names.length >= count, 0, new Promise<never>(() => {}));
    return this.#waiting.names.slice(0, count);
  }

  /** Measures one process without a network: the same shape on one worker's part of the processor. */
  async #train(core: number | undefined): Promise<void> {
    const { options } = this.bench;
    const { steps, adapter } = this.request;
    const names = TRAIN_OPTION_NAMES.filter((name) => TRAIN_OPTIONS[name].affectsSpeed);
    const shape: Given<OptionTable> = Object.fromEntries(names.map((name) => [name, options[name]]));
    const args = argumentsOf(TRAIN_OPTIONS, shape);
    if (steps !== undefined) args.push('--steps', String(steps));
    if (adapter !== undefined) args.push('--adapter', adapter);
    const child = new Child({ args: ['bench', 'train', '--json', ...args], core });
    const { stepMs, tokensPerSecond } = JSON.parse(await child.output());
    this.measured({
      ...NOTHING,
      scaling: 'train',
      workers: [],
      batch: options.batch,
      steps: steps ?? 0,
      stepMs,
      tokensPerSecond,
      computeMs: stepMs,
    });
  }

  /** `cores`: one for each worker to start; absent: the workers are connected already. */
  async #measure(
    scaling: Scaling,
    names: readonly string[],
    batch: number,
    cores: readonly (number | undefined)[] | undefined,
  ): Promise<void> {
    const { token, ...url } = parseJoinUrl(this.#listening.joinUrl('127.0.0.1'));
    const { plain, adapter } = this.request;
    const children = (cores ?? []).map((core, i) => {
      const more = [...(adapter === undefined ? [] : ['--adapter', adapter]), ...(plain ? ['--plain'] : [])];
      const args = ['worker', formatJoinUrl(url), '--name', names[i], '--quiet', '--patience', '30', ...more];
      return new Child({ args, core, token });
    });
    const failed = Promise.race([new Promise<never>(() => {}), ...children.map((child) => child.failed())]);
    failed.catch(() => {});
    try {
      const timeout = cores === undefined ? 0 : LOCAL_JOIN_MS;
      await this.#waiting.until((present) => names.every((name) => present.includes(name)), timeout, failed);
      const { steps, skip } = this.request;
      const found = await this.#withGpu((gpu) =>
        measureSetting(gpu, {
          bench: { ...this.bench, options: { ...this.bench.options, batch } },
          names,
          waiting: this.#waiting,
          data: this.#data,
          incarnation: ++this.#incarnation,
          steps,
          skip,
          failed,
          onProgress: this.output.progress(`${scaling}: ${names.join(', ')}`),
        }),
      );
      if (scaling === 'alone') this.#alone.set(names[0], found.tokensPerSecond);
      const sum = names.reduce((total, name) => total + (this.#alone.get(name) ?? Number.NaN), 0);
      const efficiency = scaling === 'alone' ? null : rounded(found.tokensPerSecond / sum, 4);
      this.measured({ ...NOTHING, scaling, workers: names, batch, efficiency, ...found });
    } finally {
      await Promise.all(children.map((child) => child.kill()));
    }
  }
}
