import type { Frame } from '../../../cluster/protocol/frame.js';
import { sets } from '../../../cluster/round/round.js';
import type { Work } from '../../../cluster/worker/work.js';
import { type WorkerOutput, WorkerState } from '../../../cluster/worker/worker-state.js';
import { LantrainError } from '../../../src/errors.js';
import type { Wire } from '../../../src/model/wire.js';
import type { Link } from './link.js';
import { type ToWorker, Violation } from './owner.js';
import { BUCKET_VALUES, checksumOf, dealtOf, eventsOf, frameOf, payloadValue } from './translate.js';
import type { SimulatedWorker } from './worker.js';
import { evaluationLoss, gradient, hashOf, wireOf } from './world.js';

/**
 * A worker in one connection, around the real `WorkerState`, which has versions, assignments and answers. It imitates:
 *
 *     the adapter      integers for weights, gradients and checksums; a time for each micro-batch, one at a time
 *     the shell        one assignment after another, each after its weights are verified; uploads one after another
 *     the connection   messages are the round's events and actions; payloads hold an integer, in the wire's size
 *     bad manners      what `WorkerTraits` says
 */
export class SimulatedShell {
  readonly #state: WorkerState;
  readonly #wire: Wire;
  /** The adapter's weights by bucket. */
  readonly #weights: number[] = [];
  #queue: Work[] = [];
  /** The work that computes, or waits for its weights. */
  #running: Work | undefined;
  #hasWeights = false;
  readonly #sums = new Map<number, number>();
  /** Number of assignments of this connection. */
  #doneWell = 0;

  constructor(
    private readonly worker: SimulatedWorker,
    private readonly link: Link,
  ) {
    const { shape } = worker.cluster;
    this.#wire = wireOf(shape);
    const output: WorkerOutput = {
      send: (message) => {
        for (const event of eventsOf(message)) worker.send(event);
      },
      weightsDue: () => this.#applyDue(),
      queue: (work) => this.#queue.push(work),
      drop: (work) => {
        this.#queue = this.#queue.filter((one) => one !== work);
      },
    };
    this.#state = new WorkerState(new Array(shape.parameterBuckets).fill(BUCKET_VALUES), output, this.#wire);
  }

  receive(message: ToWorker): void {
    try {
      this.#take(message);
    } catch (error) {
      // The state refuses only messages that no coordinator may send.
      throw error instanceof LantrainError ? new Violation(error.message, { cause: error }) : error;
    }
    this.#next();
  }

  #take(message: ToWorker): void {
    const state = this.#state;
    if (message.type === 'admit') state.announce(message.version);
    else if (message.type === 'commit') state.announce(message.step);
    else if (message.type === 'assign') this.#dealt(message);
    else if (message.type === 'hand-back') state.handBack(message.assignment, sets.idsOf(message.microBatches));
    else if (message.type === 'weights') {
      const frame = frameOf(message, this.#wire);
      if (this.#overwrites) this.#load(frame);
      void state.frame(frame);
    } else {
      const { worker, link } = this;
      state.revoke(message.assignment);
      // A revoked assignment is not continued.
      if (this.#running?.revoked) this.#end(this.#running);
      if (worker.traits.returns) worker.after(worker.world.integer(1, 100), () => link.cut(0));
    }
  }

  /** A defect of the program itself: new weights overwrite those in use. */
  get #overwrites(): boolean {
    return this.worker.cluster.mutation === 'overwrite-old-weights';
  }

  /** Applies due weights and verifies them, in no time. */
  #applyDue(): void {
    const { worker } = this;
    const complete = this.#state.applyDue((frame) => {
      if (!this.#overwrites) this.#load(frame);
      if (worker.chance(worker.traits.spoilsWeights)) this.#weights[frame.header.bucket] ^= 1;
    });
    if (complete !== undefined)
      this.#state.verify(
        complete,
        this.#weights.map((value) => checksumOf(value)),
      );
  }

  #load(frame: Frame): void {
    const { kind, bucket } = frame.header;
    this.#weights[bucket] =
      kind === 'weights-whole' ? payloadValue(frame) : (this.#weights[bucket] + payloadValue(frame)) | 0;
  }

  get #stalls(): boolean {
    const { stalls, stallsAfter } = this.worker.traits;
    return stalls !== 'no' && this.#doneWell >= stallsAfter;
  }

  #dealt(assign: Extract<ToWorker, { type: 'assign' }>): void {
    const { assignment, microBatches } = assign;
    const { worker } = this;
    const { stalls } = worker.traits;
    if (!this.#stalls || stalls === 'part') this.#state.deal(dealtOf(assign));
    else if (stalls === 'begins') worker.send({ type: 'progress', assignment, begun: sets.countOf(microBatches) });
    else if (stalls === 'hands-back') worker.send({ type: 'handed-back', assignment, microBatches });
  }

  #next(): void {
    this.#running ??= this.#queue.shift();
    const work = this.#running;
    if (work === undefined || this.#hasWeights) return;
    work.running = true;
    if (this.#state.verified < work.version) return;
    this.#hasWeights = true;
    this.#sums.clear();
    this.#compute(work);
  }

  #end(work: Work): void {
    this.#state.finish(work);
    this.#running = undefined;
    this.#hasWeights = false;
    this.#next();
  }

  /** Whether it is computing the work, on the worker's current connection. */
  #isAt(work: Work): boolean {
    return this.#running === work && this.worker.link === this.link;
  }

  /** Computes the next micro-batch of a work, or contributes it once it is complete. */
  #compute(work: Work): void {
    if (!this.#isAt(work)) return;
    const { worker } = this;
    const { kind, step, buckets = [] } = work.dealt;
    const [next] = work.take();
    if (next === undefined) {
      if (work.begun > 0) this.#contribute(work);
      else this.#end(work);
      return;
    }
    this.#state.progress(work, work.begun - 1);
    const hash = hashOf(this.#weights);
    const term = (bucket: number) =>
      kind === 'step' ? gradient(hash, step, next.microBatch, bucket) : evaluationLoss(hash, step, next.microBatch);
    for (const bucket of buckets) this.#sums.set(bucket, (this.#sums.get(bucket) ?? 0) + term(bucket));
    worker.after(worker.traits.microBatchMs * (0.5 + worker.world.random()), () => this.#compute(work));
  }

  /** Sends the sums bucket by bucket. A worker that refuses does so at one of the buckets. */
  #contribute(work: Work): void {
    const { worker } = this;
    const { traits, cluster, world } = worker;
    const { kind, step, assignment, buckets = [] } = work.dealt;
    const isPoisoned = (m: number) => kind === 'step' && cluster.poisoned.get(step) === m;
    const wrong = sets.idsOf(work.microBatches).filter((m) => isPoisoned(m) || world.chance(traits.refuses));
    const refuseAfter = wrong.length > 0 ? world.integer(0, 1) * world.integer(0, buckets.length - 1) : -1;
    const lies = kind === 'step' && world.chance(traits.lies);
    const { incarnation } = this.link.owner.options.config;
    const sendNext = (i: number) => {
      if (!this.#isAt(work)) return;
      const bucket = buckets[(i + assignment) % buckets.length];
      const value = this.#sums.get(bucket) ?? 0;
      if (i === refuseAfter || i === buckets.length) {
        if (i === buckets.length) this.#doneWell++;
        else if (kind === 'step') this.#state.refuse(work, wrong[0], 'NaN');
        else this.#state.evaluated(work, BigInt(value), false);
        this.#end(work);
      } else if (!this.#stalls || traits.stalls !== 'part' || i !== 1) {
        if (kind === 'evaluate') this.#state.evaluated(work, BigInt(value), true);
        const lie = lies && i >= Math.min(traits.liesFrom, buckets.length - 1) ? traits.lie : 0;
        const corrupt = worker.chance(traits.corrupts);
        const sum = { value: value + lie, corrupt, isFalse: lie !== 0 };
        worker.sender.send({ ...work.contribution(incarnation, bucket), ...sum }, traits, (p) => worker.chance(p));
        worker.after(world.random() * traits.latencyMs, () => sendNext(i + 1));
      }
    };
    sendNext(0);
  }
}
