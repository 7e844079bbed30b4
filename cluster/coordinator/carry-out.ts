import { LantrainError } from '../../src/errors.js';
import { nonFiniteError } from '../../src/train/engine.js';
import { OWNER, type RoundAction } from '../round/round.js';
import { idsOf } from '../round/sets.js';
import type { Dealing } from './dealing.js';
import type { Evaluation } from './evaluation.js';
import type { HeldContributions } from './held-contributions.js';
import type { Members } from './members.js';
import type { OwnerAdapter } from './owner-adapter.js';
import type { RoundDriver } from './round-driver.js';
import type { Step } from './step.js';
import type { BusyTime } from './times.js';
import type { WeightsOut } from './weights-out.js';
import type { WorkerClasses } from './worker-class.js';

/** The parts of the engine that carry out the round's actions. */
export interface EngineParts {
  readonly driver: RoundDriver;
  readonly members: Members;
  readonly classes: WorkerClasses;
  readonly contributions: HeldContributions;
  readonly step: Step;
  readonly evaluation: Evaluation;
  readonly dealing: Dealing;
  readonly weights: WeightsOut;
  readonly own: OwnerAdapter;
  /** Time of updates, including the packing of differences. */
  readonly updateTime: BusyTime;
  /** Called before a step is committed: credits its contributors. */
  readonly credit: () => void;
  /** Called after a step or a chunk of an evaluation. */
  readonly jobEnded: () => void;
  readonly stopped: (action: Extract<RoundAction, { type: 'stopped' }>) => void;
  readonly log: (action: Extract<RoundAction, { type: 'log' }>) => void;
}

type ActionTable = { readonly [T in RoundAction['type']]: (action: Extract<RoundAction, { type: T }>) => void };

/** Carries out each action of the round by a table; an action without a row does not compile. */
export function actionsOf(parts: EngineParts): (action: RoundAction) => void {
  const { driver, members, classes, contributions, step, evaluation, dealing, weights, own, updateTime } = parts;
  const table: ActionTable = {
    admit: ({ worker, version }) => members.tell(worker, { type: 'admit', version }),
    close: ({ worker, code, reason }) =>
      members.get(worker)?.connection.close(new LantrainError(code, classes.readable(reason))),
    send: (action) => {
      const member = members.get(action.worker);
      if (member !== undefined) weights.send(action, member.connection, member.sendQueue);
    },
    assign: (action) => dealing.assign(action),
    'hand-back': ({ worker, assignment, microBatches }) =>
      members.tell(worker, { type: 'hand-back', assignment, microBatches: idsOf(microBatches) }),
    revoke: ({ worker, assignment }) => {
      if (worker === OWNER) own.drop(assignment);
      else members.tell(worker, { type: 'revoke', assignment });
    },
    add: ({ contribution, bucket }) => contributions.add(contribution, bucket),
    check: ({ contribution }) => contributions.check(contribution),
    release: ({ contribution }) => contributions.release(contribution),
    norm: () => driver.background(updateTime.during(step.norm())),
    update: (action) => driver.background(updateTime.during(step.update(action.step, action.bucket))),
    commit: (action) => {
      parts.credit();
      parts.jobEnded();
      members.tellAll({ type: 'commit', step: action.step });
      step.commit(action.step);
    },
    evaluated: ({ finite }) => {
      evaluation.end(finite);
      parts.jobEnded();
    },
    stopped: parts.stopped,
    log: parts.log,
  };
  return (action) => (table[action.type] as (action: RoundAction) => void)(action);
}

/** The error of a run that cannot go on; undefined if it was asked to stop. */
export function failureOf(
  { step, reason }: Extract<RoundAction, { type: 'stopped' }>,
  members: Members,
): LantrainError | undefined {
  switch (reason.why) {
    case 'asked':
      return undefined;
    case 'refused':
      return nonFiniteError(step, `micro-batch ${reason.microBatch} (${reason.reason})`);
    case 'audit': {
      const names = reason.workers.map((id) => members.nameOf(id)).join(' and ');
      const what = `${names} do not agree on bucket ${reason.bucket}; one of them lies or has faulty memory`;
      return new LantrainError('LT_CLUSTER_AUDIT', `step ${step}: ${what}`);
    }
  }
}
