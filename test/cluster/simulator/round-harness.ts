import {
  Round,
  type RoundAction,
  type RoundConfig,
  type RoundEvent,
  type RoundNote,
  sets,
} from '../../../cluster/round/round.js';

const CONFIG: RoundConfig = {
  parameterBuckets: 3,
  version: 0,
  incarnation: 2,
  clips: false,
  minWorkers: 1,
  audit: 0,
  ownerBitClass: 'a',
  exact: false,
  ownerComputes: false,
};

type Body<T> = T extends RoundEvent ? Omit<T, 'now'> : never;
export type Of<T extends RoundAction['type']> = Extract<RoundAction, { type: T }>;

/** A round and its last actions. Acknowledges sent weights at once unless `reads` is false. */
export class RoundHarness {
  readonly round: Round;
  now = 0;
  actions: RoundAction[] = [];
  reads = true;

  constructor(config: Partial<RoundConfig> = {}) {
    this.round = new Round({ ...CONFIG, ...config });
  }

  do(event: Body<RoundEvent>): RoundAction[] {
    this.actions = this.round.handle({ ...event, now: this.now } as RoundEvent);
    const all = [...this.actions];
    if (this.reads) for (const { worker } of this.of('send')) all.push(...this.do({ type: 'sent', worker }));
    this.actions = all;
    return all;
  }

  of<T extends RoundAction['type']>(type: T): Of<T>[] {
    return this.actions.filter((a): a is Of<T> => a.type === type);
  }

  join(worker: number, bitClass = 'a', person = `person ${worker}`): void {
    this.do({ type: 'worker-joined', worker, bitClass, person });
  }

  begin(step = 1, microBatches = 4): Of<'assign'>[] {
    this.do({ type: 'begin-step', step, microBatches });
    return this.of('assign');
  }

  /** Joins workers and has each prove itself with one micro-batch of an evaluation. */
  prove(...workers: number[]): void {
    for (const worker of workers) this.join(worker);
    this.evaluate(workers.length);
  }

  evaluate(microBatches: number): void {
    this.do({ type: 'begin-evaluation', microBatches });
    for (const assign of this.of('assign')) this.deliver(assign, 3);
  }

  #next = 1;
  contribute(assign: Of<'assign'>, bucket: number, changes: object = {}): RoundAction[] {
    const { worker, assignment, step, microBatches } = assign;
    const contribution = this.#next++;
    const frame = { worker, assignment, step, microBatches, contribution, incarnation: 2, bucket, draw: 0.5 };
    return this.do({ type: 'contribution', ...frame, ...changes });
  }

  /** Contributes a bucket and has it added. */
  deliver(assign: Of<'assign'>, bucket: number): RoundAction[] {
    const [add] = this.contribute(assign, bucket);
    if (add.type !== 'add') throw new Error(`${add.type} instead of add`);
    return this.do({ type: 'added', contribution: add.contribution, ok: true });
  }

  /**
   * Contributes all buckets of an assignment and answers every `check` and `add`. `sums`: stands for the payload.
   * `draw`: private randomness. Returns all actions.
   */
  work(assign: Of<'assign'>, sums = 'right', draw = 0.5): RoundAction[] {
    const all: RoundAction[] = [];
    for (const bucket of sets.membersOf(assign.buckets)) {
      const actions = this.contribute(assign, bucket, { draw });
      all.push(...actions);
      for (const action of actions) {
        if (action.type === 'add') all.push(...this.summed(action));
        if (action.type !== 'check') continue;
        const { contribution } = action;
        const checked = this.do({ type: 'checked', contribution, digest: `${sums} ${bucket}` });
        all.push(...checked);
        for (const one of checked) if (one.type === 'add') all.push(...this.summed(one));
      }
    }
    this.actions = all;
    return all;
  }

  summed({ contribution }: Of<'add'>): RoundAction[] {
    return this.do({ type: 'added', contribution, ok: true });
  }

  notes(note: RoundNote['note']): RoundNote[] {
    return this.of('log').flatMap((l) => (l.note.note === note ? [l.note] : []));
  }

  /** A whole step by one worker. */
  step(step: number): void {
    const [assign] = this.begin(step);
    for (let b = 0; b <= 3; b++) this.deliver(assign, b);
    for (let b = 0; b < 3; b++) this.do({ type: 'updated', bucket: b });
  }
}

export const types = (actions: RoundAction[]) => actions.filter((a) => a.type !== 'log').map((a) => a.type);
