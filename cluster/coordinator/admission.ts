import { LantrainError } from '../../src/errors.js';
import type { ShaderTexts } from '../../src/gpu/kernel.js';
import { printableWords } from '../../src/util/printable.js';
import { malformed } from '../protocol/malformed.js';
import type { Handlers, MessageFromWorker, WorkerMessage } from '../protocol/protocol.js';
import type { WorkerId } from '../round/round.js';
import { type IdSet, microBatchSet } from '../round/sets.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import type { Credits } from './credits.js';
import type { HeldContributions } from './held-contributions.js';
import { type Members, NOTHING, OWNER_NAME, type RemoteWorker } from './members.js';
import type { ClusterOptions } from './options.js';
import type { RoundDriver } from './round-driver.js';
import { addReported } from './times.js';
import type { WeightsOut } from './weights-out.js';
import type { WorkerClasses } from './worker-class.js';

/** Characters of a worker's text that go to terminals and logs. */
const MOST_CHARACTERS = 200;

/** Admits workers, and turns their messages into events. */
export class Admission {
  constructor(
    private readonly parts: {
      readonly driver: RoundDriver;
      readonly members: Members;
      readonly classes: WorkerClasses;
      readonly contributions: HeldContributions;
      readonly credits: Credits;
      readonly weights: WeightsOut;
    },
    private readonly options: ClusterOptions,
    /** Number of buckets, including the loss. */
    private readonly buckets: number,
    private readonly shaders: ShaderTexts,
  ) {}

  /** Takes a connection that the transport has authenticated. */
  admit(connection: CoordinatorConnection): void {
    const { members, weights, credits, contributions } = this.parts;
    const member = members.add(connection, weights.sendQueueOf(connection.person));
    connection.onClose = (error) => this.#left(member, error.message);
    connection.onFrame = (frame) => {
      if (!member.joined) throw malformed('a contribution of who is not admitted');
      const { assignment } = frame.header;
      if (credits.kindOf(assignment) === 'evaluate')
        throw new LantrainError(
          'LT_CLUSTER_IMPOSSIBLE',
          `assignment ${assignment} is an evaluation, which has no frames`,
        );
      if (member.doing.assignment === assignment) member.doing.uploading = true;
      // The bytes count against the receive pool until the promise settles.
      return contributions.take(member.id, frame);
    };
    connection.onControl = this.#handlers(member);
  }

  #handlers(member: RemoteWorker): Handlers<WorkerMessage> {
    const { driver } = this.parts;
    const { id: worker, connection } = member;
    return {
      join: (m) => this.#welcome(member, m),
      probed: (m) => this.#probed(member, m),
      leave: (m) => connection.close(new LantrainError('LT_CLUSTER_CLOSED', words(m.reason))),
      // No honest worker sends any of these before it is admitted.
      ...membersOnly(member, {
        ready: () => driver.event({ type: 'life', worker }),
        mismatch: (m) => {
          for (const bucket of m.buckets) driver.event({ type: 'mismatch', worker, bucket });
        },
        progress: (m) => {
          if (member.doing.assignment === m.assignment) member.doing.done = Math.min(m.done, member.doing.dealt);
          driver.event({ type: 'progress', worker, assignment: m.assignment, begun: m.begun });
        },
        'handed-back': (m) => {
          const microBatches = microBatchSet(m.microBatches);
          driver.event({ type: 'handed-back', worker, assignment: m.assignment, microBatches });
        },
        refused: (m) => this.#refused(worker, m.assignment, microBatchSet([m.microBatch]), words(m.what)),
        evaluated: (m) => this.#evaluated(member, m),
        stats: (m) => {
          member.doing = NOTHING;
          const now = performance.now();
          addReported(member.totals, m, now - member.reportedAt);
          member.reportedAt = now;
        },
      }),
    };
  }

  #welcome(member: RemoteWorker, join: MessageFromWorker<'join'>): void {
    const { connection } = member;
    const { buckets } = this;
    if (!member.owes.delete('join')) throw malformed('join was said already');
    const { model, plan, shape, seed, incarnation, microBatches, tokensPerStep, ownClass } = this.options;
    const name = words(join.name);
    member.name = name === '' || lettersOf(name) === lettersOf(OWNER_NAME) ? `worker ${member.id}` : name;
    member.adapter = words(join.adapter);
    connection.frames = { incarnation, buckets, microBatches, kinds: ['contribution'] };
    connection.send({
      type: 'welcome',
      worker: member.id,
      incarnation,
      step: this.parts.driver.round.version + 1,
      model,
      plan,
      shape,
      seed,
      microBatches,
      tokensPerStep,
      buckets,
      ...(join.lacksShaders ? { shaders: { ...this.shaders } } : {}),
    });
    const { nonce } = ownClass;
    connection.send({ type: 'probe', probe: 'reference', nonce });
    connection.send({ type: 'probe', probe: 'run', nonce });
  }

  #probed(member: RemoteWorker, { probe, hash }: MessageFromWorker<'probed'>): void {
    const { owes, hashes } = member;
    if (owes.has('join') || !owes.delete(probe)) throw malformed(`the hash of ${probe} was not asked for`);
    hashes[probe] = hash;
    const { reference, run } = hashes;
    if (reference === undefined || run === undefined) return;
    const { key, name } = this.parts.classes.of({ reference, run });
    member.bitClass = name;
    member.joined = true;
    const { id, connection } = member;
    this.parts.driver.event({ type: 'worker-joined', worker: id, bitClass: key, person: connection.person });
  }

  #left(member: RemoteWorker, reason: string): void {
    if (member.joined) this.parts.driver.event({ type: 'worker-left', worker: member.id, reason: words(reason) });
    else this.parts.members.remove(member.id);
  }

  #evaluated(member: RemoteWorker, m: MessageFromWorker<'evaluated'>): void {
    const { assignment } = m;
    if (this.parts.credits.kindOf(assignment) === 'step')
      throw new LantrainError('LT_CLUSTER_IMPOSSIBLE', `assignment ${assignment} is no evaluation`);
    if (member.doing.assignment === assignment) member.doing = NOTHING;
    const microBatches = microBatchSet(m.microBatches);
    const sum = (BigInt(m.high | 0) << 32n) + BigInt(m.low);
    if (m.finite) this.parts.contributions.takeLosses(member.id, assignment, microBatches, sum);
    else this.#refused(member.id, assignment, microBatches, 'the loss');
  }

  #refused(worker: WorkerId, assignment: number, microBatches: IdSet, reason: string): void {
    this.parts.driver.event({ type: 'refused', worker, assignment, microBatches, reason });
  }
}

/** A worker's text made safe for terminals and logs. */
function words(text: string): string {
  return printableWords(text, MOST_CHARACTERS);
}

/** The letters and digits of a name: equal for names that differ only in spaces, signs and case. */
function lettersOf(name: string): string {
  return name
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}

/** Handlers of messages that only a member may send. */
type MemberHandlers = Omit<Handlers<WorkerMessage>, 'join' | 'probed' | 'leave'>;

/** Each throws LT_CLUSTER_MALFORMED before the worker is a member. */
function membersOnly(member: RemoteWorker, handlers: MemberHandlers): MemberHandlers {
  const guarded = Object.entries(handlers).map(([type, handler]) => [
    type,
    (message: never) => {
      if (!member.joined) throw malformed(`${type} of who is not admitted`);
      (handler as (message: never) => void)(message);
    },
  ]);
  return Object.fromEntries(guarded);
}
