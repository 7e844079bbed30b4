import type { MicroBatch } from '../../src/model/gpt.js';
import type { MicroBatchData } from '../protocol/protocol.js';
import { packWindows, type WindowShape } from '../protocol/tokens.js';
import { OWNER, type RoundAction } from '../round/round.js';
import { idsOf } from '../round/sets.js';
import type { Contributor } from '../worker/worker-tally.js';
import type { Credits } from './credits.js';
import type { Evaluation } from './evaluation.js';
import { contributorOf, type Members } from './members.js';
import type { OwnerAdapter } from './owner-adapter.js';
import type { Step } from './step.js';

type AssignAction = Extract<RoundAction, { type: 'assign' }>;

/** Sends assignments of the round to workers, with their tokens, or passes them to the owner's adapter. */
export class Dealing {
  constructor(
    private readonly parts: {
      readonly members: Members;
      readonly own: OwnerAdapter;
      readonly step: Step;
      readonly evaluation: Evaluation;
      readonly credits: Credits;
    },
    private readonly owner: Contributor,
    private readonly windows: WindowShape,
    /** Number of buckets, including the loss. */
    private readonly buckets: number,
  ) {}

  assign(action: AssignAction): void {
    const { batches } = action.kind === 'step' ? this.parts.step : this.parts.evaluation;
    if (batches === undefined) return;
    if (action.worker === OWNER) this.#assignOwn(action, batches);
    else this.#assignRemote(action, batches);
  }

  #assignRemote({ worker, assignment, kind, step, ...action }: AssignAction, batches: readonly MicroBatch[]): void {
    const member = this.parts.members.get(worker);
    if (!member) return;
    const indices = idsOf(action.microBatches);
    member.doing = { kind, assignment, dealt: indices.length, done: 0, uploading: false };
    this.parts.credits.deal(assignment, worker, contributorOf(member), kind, performance.now());
    const microBatches: MicroBatchData[] = indices.map((microBatch) => {
      const batch = batches[microBatch];
      return { microBatch, slot: batch.firstSlot, ids: packWindows(batch, this.windows) };
    });
    const { connection } = member;
    if (kind === 'evaluate') {
      connection.send({ type: 'evaluate', assignment, version: step, microBatches });
      return;
    }
    const buckets = idsOf(action.buckets);
    const lacking = buckets.length === this.buckets ? {} : { buckets };
    connection.send({ type: 'assign', assignment, step, microBatches, ...lacking, ...this.#scale() });
  }

  #assignOwn({ assignment, kind, step, ...action }: AssignAction, batches: readonly MicroBatch[]): void {
    this.parts.credits.deal(assignment, OWNER, this.owner, kind, performance.now());
    this.parts.own.take({
      kind,
      assignment,
      step,
      version: kind === 'step' ? step - 1 : step,
      batches: new Map(idsOf(action.microBatches).map((microBatch) => [microBatch, batches[microBatch]])),
      buckets: kind === 'step' ? idsOf(action.buckets) : [],
      ...this.#scale(),
    });
  }

  #scale(): { readonly scaleExponent?: number } {
    const { lossScale } = this.parts.step;
    return lossScale ? { scaleExponent: lossScale.exponent } : {};
  }
}
