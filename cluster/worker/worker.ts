import { describeMismatch } from '../../src/check/checking.js';
import { LantrainError } from '../../src/errors.js';
import { adapterTitle } from '../../src/gpu/device.js';
import { withoutDriversWords } from '../../src/gpu/driver-words.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { runnablePlan, withOwnKernels } from '../../src/model/plan.js';
import type { Frame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import { END_REASONS, type MessageFromCoordinator, type Welcome } from '../protocol/protocol.js';
import type { WorkerConnection } from '../transport/connection.js';
import { type ComputeContext, computeLosses, computeStep } from './compute.js';
import type { WorkerOptions } from './options.js';
import { WeightsLoop } from './weights-loop.js';
import type { Work } from './work.js';
import { WorkTimes } from './work-times.js';
import { WorkerState } from './worker-state.js';

/** A task in the queue; `work` if it computes an assignment. */
interface Task {
  readonly run: () => Promise<void>;
  readonly work?: Work;
}

/** Largest number of probes that may wait at once; a coordinator asks for two. */
const MOST_PROBES = 4;

/**
 * A worker computes what it is dealt with the weights it is sent, and owns no state of the run. This class is its
 * shell: the connection, the adapter, and one queue of tasks (set-up, probes and assignments, in order of arrival).
 * `WorkerState` holds what it knows and answers. Work for step s waits until every bucket is at version s - 1 and
 * verified. What a coordinator sends ahead is held in bounded memory (`HeldWork`, `HeldFrames`). Beyond that bound the
 * connection ends with LT_CLUSTER_MALFORMED, which is not retried.
 */
export class Worker {
  readonly #connection: WorkerConnection;
  readonly #options: WorkerOptions;
  readonly #times = new WorkTimes();
  #isWelcome = false;
  /** Set once the engine is built. */
  #context: ComputeContext | undefined;
  #tasks: Task[] = [];
  #probes = 0;
  #work: Promise<void> | undefined;
  #over: LantrainError | undefined;
  #tellEnd: (reason: LantrainError) => void = () => {};
  readonly #ended: Promise<LantrainError>;

  constructor(connection: WorkerConnection, options: WorkerOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#ended = new Promise((end) => {
      this.#tellEnd = end;
    });
    connection.onClose = (error) => this.#end(error);
    connection.onFrame = (frame) => this.#frame(frame);
    connection.onControl = {
      welcome: (m) => {
        if (this.#isWelcome) throw malformed('a second welcome');
        this.#isWelcome = true;
        this.#queue({ run: () => this.#setUp(m) });
      },
      probe: (m) => {
        if (++this.#probes > MOST_PROBES) throw malformed(`${this.#probes} probes at once`);
        this.#queue({ run: () => this.#probe(m) });
      },
      admit: (m) => this.#ready().state.announce(m.version),
      commit: (m) => {
        this.#times.weightsCame();
        this.#ready().state.announce(m.step);
      },
      assign: (m) => this.#ready().state.deal({ ...m, kind: 'step' }),
      evaluate: (m) => this.#ready().state.deal({ ...m, kind: 'evaluate', step: m.version }),
      'hand-back': (m) => this.#ready().state.handBack(m.assignment, m.microBatches),
      revoke: (m) => this.#ready().state.revoke(m.assignment),
      stop: ({ final, reason }) => {
        const code = final ? 'LT_CLUSTER_DONE' : 'LT_CLUSTER_CLOSED';
        this.#end(new LantrainError(code, `the coordinator has stopped: ${END_REASONS[reason]}`));
      },
    };
    const { adapter } = options.engines.gpu;
    const described = adapterTitle(adapter).slice(0, 1000);
    const lacksShaders = !options.engines.hasShaders;
    connection.send({ type: 'join', name: options.name, adapter: described, lacksShaders });
  }

  /** Works until the connection ends or the coordinator stops. Resolves with the reason once no work is running. */
  async run(): Promise<LantrainError> {
    const reason = await this.#ended;
    await Promise.all([this.#work, this.#context?.weights.settled()]);
    return reason;
  }

  #end(reason: LantrainError): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
    this.#tasks = [];
    this.#context?.state.end();
    this.#context?.weights.end(reason);
    this.#tellEnd(reason);
  }

  /** Leaves in good order. */
  leave(reason: string): void {
    if (this.#connection.isOpen) this.#connection.send({ type: 'leave', reason });
    this.#connection.close(new LantrainError('LT_CLUSTER_CLOSED', reason));
  }

  #queue(task: Task): void {
    if (this.#over !== undefined) return;
    this.#tasks.push(task);
    this.#work ??= this.#runTasks();
  }

  async #runTasks(): Promise<void> {
    try {
      for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift()) await task.run();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#work = undefined;
    }
  }

  /** This worker itself failed: it closes the connection with the reason. The run is not harmed. */
  #fail(error: unknown): void {
    const known =
      error instanceof LantrainError ? error : new LantrainError('LT_CLUSTER_WORKER', `the worker failed: ${error}`);
    // The coordinator shows the message to its user, who knows nothing about this machine's driver.
    this.#connection.close(new LantrainError(known.code, withoutDriversWords(known), { cause: known }));
    this.#end(known);
  }

  async #setUp(welcome: Welcome): Promise<void> {
    const { engines, onNote } = this.#options;
    const { gpu } = engines;
    const portable = welcome.shape.precision === 'portable';
    const plan = (portable ? withOwnKernels : runnablePlan)(welcome.plan, gpu.adapter);
    if (welcome.shape.precision === 'f16' && !gpu.has('shader-f16'))
      throw new LantrainError(
        'LT_CLUSTER_WORKER',
        `the run computes in float16, which needs shader-f16, and ${adapterTitle(gpu.adapter)} has not that feature`,
      );
    const buckets = new ParameterLayout(welcome.model, plan).buckets();
    if (welcome.buckets !== buckets.length + 1)
      throw malformed(`${welcome.buckets} buckets for a model of ${buckets.length} and the loss`);
    onNote?.({ note: 'welcome', worker: welcome.worker, step: welcome.step });
    if (plan !== welcome.plan && !portable) onNote?.({ note: 'own-kernels' });
    const engine = await engines.get({ ...welcome, plan }, (done, total) =>
      onNote?.({ note: 'compiling', done, total }),
    );
    if (this.#over !== undefined) return;
    const { fast, mismatch } = engines.portability ?? {};
    if (mismatch) onNote?.({ note: 'not-portable', difference: describeMismatch(mismatch) });
    else if (fast) onNote?.({ note: 'kept-sums', difference: describeMismatch(fast) });
    const connection = this.#connection;
    const state = new WorkerState(
      buckets.map(({ size }) => size),
      {
        send: (message) => connection.send(message),
        weightsDue: () => weights.wake(),
        queue: (work) => this.#queue({ run: () => this.#compute(work), work }),
        drop: (work) => {
          this.#tasks = this.#tasks.filter((task) => task.work !== work);
        },
      },
      welcome.shape.wire,
    );
    const onVerified = (version: number) => {
      this.#times.weightsVerified();
      onNote?.({ note: 'ready', version });
    };
    const weights = new WeightsLoop(state, engine, onVerified, (error) => this.#fail(error));
    this.#context = { connection, welcome, engine, state, weights, times: this.#times, options: this.#options };
    // Frames are accepted only from here on.
    connection.frames = {
      incarnation: welcome.incarnation,
      buckets: welcome.buckets,
      microBatches: welcome.microBatches,
      kinds: ['weights-whole', 'weights-difference'],
    };
  }

  #ready(): ComputeContext {
    if (this.#context === undefined) throw malformed('work before the answer to a welcome');
    return this.#context;
  }

  async #probe({ probe, nonce }: MessageFromCoordinator<'probe'>): Promise<void> {
    this.#ready();
    const hash = await this.#options.engines.probe(probe, nonce);
    this.#probes--;
    this.#connection.send({ type: 'probed', probe, hash });
  }

  #frame(frame: Frame): Promise<void> | undefined {
    const { state } = this.#ready();
    this.#times.weightsCame();
    return state.frame(frame);
  }

  #compute(work: Work): Promise<void> {
    return (work.dealt.kind === 'step' ? computeStep : computeLosses)(this.#ready(), work);
  }
}
