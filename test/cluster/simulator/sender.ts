import { sets } from '../../../cluster/round/round.js';
import type { FromWorker, SimulatedContribution } from './owner.js';
import type { WorkerTraits } from './traits.js';
import type { World } from './world.js';

/** Contributions that are kept to be sent again, also to a later coordinator that has dealt as many assignments. */
const MOST_KEPT = 60;

/** A worker's upload, which forges, repeats or replays some contributions. */
export class Sender {
  #sent: SimulatedContribution[] = [];

  constructor(
    private readonly world: World,
    private readonly parameterBuckets: number,
    private readonly up: (message: FromWorker) => void,
  ) {}

  /** `chance`: whether a fault of this probability happens. */
  send(contribution: SimulatedContribution, traits: WorkerTraits, chance: (p: number) => boolean): void {
    const send = (c: SimulatedContribution) => this.up({ type: 'contribution', ...c });
    if (chance(traits.impossible)) send({ ...contribution, ...this.#forged(contribution) });
    // Sent before the right one, so that a coordinator that accepts it has accepted a wrong one.
    const alike = chance(traits.replays) ? this.#alike(contribution) : undefined;
    if (alike !== undefined) send(alike);
    send(contribution);
    this.#sent.push(contribution);
    if (this.#sent.length > MOST_KEPT) this.#sent.shift();
    if (chance(traits.duplicates)) send(contribution);
    if (chance(traits.replays)) send(this.world.pick(this.#sent));
  }

  /** A contribution of an earlier coordinator or step that is equal otherwise. */
  #alike({ assignment, bucket, microBatches }: SimulatedContribution): SimulatedContribution | undefined {
    return this.#sent.find(
      (c) => c.assignment === assignment && c.bucket === bucket && sets.equalSets(c.microBatches, microBatches),
    );
  }

  #forged({ step, assignment, value, incarnation }: SimulatedContribution): Partial<SimulatedContribution> {
    return this.world.pick<Partial<SimulatedContribution>>([
      { step: step + 1 },
      { assignment: assignment + 1000 },
      { bucket: this.parameterBuckets + 1 },
      { bucket: -1 },
      { microBatches: sets.microBatchSet([1023]), value: value + 1 },
      { incarnation: incarnation + 1 },
    ]);
  }
}
