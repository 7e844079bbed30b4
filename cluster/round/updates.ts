import type { EventOf } from './events.js';
import { emptySet, has, type IdSet, insert } from './sets.js';
import type { RoundState } from './state.js';

/** From complete sums to new weights at every worker: orders updates, and sends buckets at each worker's pace. */
export class Updates {
  /** Buckets of the current step whose update was ordered, and buckets that are stepped. */
  #ordered: IdSet;
  #stepped: IdSet;
  #steppedCount = 0;

  constructor(readonly state: RoundState) {
    this.#ordered = emptySet(state.config.parameterBuckets);
    this.#stepped = emptySet(state.config.parameterBuckets);
  }

  order(bucket: number): void {
    const { job } = this.state;
    if (job?.kind !== 'step') throw new RangeError('no step is in hand');
    insert(this.#ordered, bucket);
    this.state.emit({ type: 'update', step: job.step, bucket });
  }

  orderAll(): void {
    for (let b = 0; b < this.state.config.parameterBuckets; b++) this.order(b);
  }

  updated({ bucket, now }: EventOf<'updated'>): void {
    if (!has(this.#ordered, bucket) || has(this.#stepped, bucket))
      throw new RangeError(`bucket ${bucket} was not to be updated`);
    insert(this.#stepped, bucket);
    this.#steppedCount++;
    this.state.moved(now);
    for (const { delivery } of this.state.members.values()) delivery.notifyStepped();
  }

  /** Every bucket of the step is stepped. */
  get isComplete(): boolean {
    return this.#steppedCount === this.state.config.parameterBuckets;
  }

  /** Makes the new weights the weights. */
  commit(step: number): void {
    const { state } = this;
    state.emit({ type: 'commit', step });
    state.version = step;
    this.#ordered = emptySet(state.config.parameterBuckets);
    this.#stepped = emptySet(state.config.parameterBuckets);
    this.#steppedCount = 0;
    for (const { delivery } of state.members.values()) delivery.committed(step);
  }

  /** Sends each worker the buckets that it lacks, within its window. */
  send(): void {
    const { job, version, members, config } = this.state;
    const weights = {
      committed: version,
      stepped: this.#stepped,
      ordered: this.#ordered,
      first: config.version,
      complete: job?.kind === 'step' && job.allComplete,
    };
    for (const { id, delivery } of members.values())
      for (let next = delivery.next(weights); next !== undefined; next = delivery.next(weights))
        this.state.emit({ type: 'send', worker: id, ...next });
  }

  sent({ worker }: EventOf<'sent'>): void {
    this.state.members.get(worker)?.delivery.sent();
  }

  mismatch({ worker, bucket, now }: EventOf<'mismatch'>): void {
    const { members, config, policy, version, counters, close } = this.state;
    const member = members.get(worker);
    if (member === undefined) return;
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= config.parameterBuckets) {
      close(worker, 'LT_CLUSTER_IMPOSSIBLE', `there is no bucket ${bucket}`, now);
      return;
    }
    counters.wrongBuckets++;
    member.wrongBuckets++;
    const byPerson = member.person.wrongBucket(now);
    if (member.wrongBuckets > policy.wrongBuckets || byPerson > 4 * policy.wrongBuckets)
      close(worker, 'LT_CLUSTER_WEIGHTS', `its weights of bucket ${bucket} stay wrong`, now);
    else member.delivery.forget(bucket, version);
  }
}
