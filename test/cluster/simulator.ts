import {
  DEFAULT_POLICY,
  type Round,
  type RoundAction,
  type RoundCounters,
  type StopReason,
} from '../../cluster/round/round.js';
import { Ledger } from './simulator/ledger.js';
import { freshRun, type Mutation, must, Owner, Violation } from './simulator/owner.js';
import { HONEST, isBad, type WorkerTraits } from './simulator/traits.js';
import { type Cluster, SimulatedWorker } from './simulator/worker.js';
import { plainDigest, type Shape, World } from './simulator/world.js';

export type { Mutation } from './simulator/owner.js';
export { HONEST, type WorkerTraits } from './simulator/traits.js';

/** One run with all its faults. */
export interface Scenario extends Shape {
  readonly workers: readonly WorkerTraits[];
  readonly minWorkers: number;
  readonly audit: number;
  /** Time of a micro-batch on the owner's adapter; undefined if it does not compute. */
  readonly ownerMs: number | undefined;
  /** When it fails. */
  readonly ownerFailsAtMs?: number;
  /** The person of each of `workers`, if some have the same address. */
  readonly persons?: readonly string[];
  readonly checkpointEvery: number;
  /** Faults happen until this virtual time; afterwards the run must end in bounded time. */
  readonly faultsUntilMs: number;
  /** Mean time between faults of each kind; 0: none. */
  readonly killEveryMs: number;
  readonly pauseEveryMs: number;
  readonly breakEveryMs: number;
  readonly coordinatorKillEveryMs: number;
  /** Micro-batches that are NaN on every adapter, by step. */
  readonly poisoned?: ReadonlyMap<number, number>;
  /** Called with every action; a directed schedule causes its faults here. */
  readonly onAction?: (action: RoundAction, simulation: Simulation) => void;
}

export interface Outcome {
  readonly stopped: StopReason | undefined;
  readonly digest: number;
  readonly expected: number;
  readonly virtualMs: number;
  readonly counters: Readonly<RoundCounters>;
  /** How often each note was logged, over all starts of the coordinator. */
  readonly notes: ReadonlyMap<string, number>;
  readonly incarnations: number;
  readonly ledger: Ledger;
}

/** A run that violated a guarantee. The message names the seed that replays it. */
export class SimulationFailure extends Error {}

/** Virtual time within which a run must end after the last fault. */
const PATIENCE_MS = 600_000;
const MOST_EVENTS = 300_000;

export class Simulation {
  readonly world: World;
  readonly cluster: Cluster;
  readonly workers: SimulatedWorker[] = [];
  readonly #disk: { checkpoint: ReturnType<typeof freshRun> };
  readonly #notes = new Map<string, number>();
  readonly ledger = new Ledger();
  #incarnation = 0;
  owner: Owner;

  constructor(
    readonly scenario: Scenario,
    readonly mutation?: Mutation,
    readonly roundClass?: typeof Round,
  ) {
    this.world = new World(scenario.seed);
    const poisoned = scenario.poisoned ?? new Map();
    this.#disk = { checkpoint: freshRun(scenario) };
    this.cluster = {
      world: this.world,
      shape: scenario,
      owner: undefined,
      mutation,
      poisoned,
      nextWorker: 1,
      calm: false,
    };
    this.owner = this.#startCoordinator();
    for (const [i, traits] of scenario.workers.entries()) this.spawn(traits, scenario.persons?.[i]);
    this.#schedule(scenario.killEveryMs, () => this.#killOne());
    this.#schedule(scenario.pauseEveryMs, () => this.#one()?.pause(this.world.integer(100, 20_000)));
    this.#schedule(scenario.breakEveryMs, () => this.#one()?.link?.cut(this.world.pick([0, 20, 3000, 30_000])));
    this.#schedule(scenario.coordinatorKillEveryMs, () => this.restartCoordinator());
    this.world.after(scenario.faultsUntilMs, () => {
      this.cluster.calm = true;
      // At least one good worker is connected.
      this.spawn({ ...HONEST, bitClass: 'a', microBatchMs: 50, latencyMs: 5 });
    });
  }

  readonly spawn = (traits: WorkerTraits, person = `host ${this.workers.length}`): SimulatedWorker => {
    const worker = new SimulatedWorker(this.cluster, traits, person);
    this.workers.push(worker);
    return worker;
  };

  /** Kills the coordinator; a new one resumes from the last checkpoint. */
  restartCoordinator(): void {
    if (!this.owner.up) return;
    this.#collect();
    this.owner.crash();
    this.cluster.owner = undefined;
    this.world.after(this.world.integer(50, 1000), () => {
      this.owner = this.#startCoordinator();
    });
  }

  #startCoordinator(): Owner {
    const { scenario } = this;
    this.ledger.restart(this.#disk.checkpoint.version);
    const owner = new Owner(this.world, scenario, this.#disk, {
      config: {
        parameterBuckets: scenario.parameterBuckets,
        version: 0,
        incarnation: ++this.#incarnation,
        clips: scenario.clips,
        minWorkers: scenario.minWorkers,
        audit: scenario.audit,
        ownerBitClass: 'a',
        exact: false,
        ownerComputes: scenario.ownerMs !== undefined,
        firstSteps: new Map(this.ledger.contributed),
        policy: { ...DEFAULT_POLICY, sendWindow: 2 },
      },
      checkpointEvery: scenario.checkpointEvery,
      ownerMs: scenario.ownerMs ?? 0,
      ownerFailsAtMs: scenario.ownerFailsAtMs,
      poisoned: this.cluster.poisoned,
      ledger: this.ledger,
      mutation: this.mutation,
      roundClass: this.roundClass,
      onAction: (action) => {
        if (action.type === 'close') this.#mustDeserveIt(action.worker, action.code);
        scenario.onAction?.(action, this);
      },
    });
    this.cluster.owner = owner;
    return owner;
  }

  /** Whether the owner's adapter decides every dispute about workers of its class. */
  get #ownerDecides(): boolean {
    return this.scenario.ownerMs !== undefined && this.scenario.ownerFailsAtMs === undefined;
  }

  /** No honest worker is expelled because of dishonest ones. */
  #mustDeserveIt(id: number, code: string): void {
    const worker = this.workers.find((w) => w.link?.id === id);
    if (worker === undefined || (code !== 'LT_CLUSTER_AUDIT' && code !== 'LT_CLUSTER_MANNERS')) return;
    const ofPerson = this.workers.filter((w) => w.person === worker.person);
    if (ofPerson.some((w) => isBad(w.traits)) || this.scenario.poisoned !== undefined) return;
    const liars = new Set(this.workers.filter((w) => w.traits.lies > 0).map((w) => w.person));
    const undecided = !this.#ownerDecides || worker.traits.bitClass !== 'a';
    must(code === 'LT_CLUSTER_AUDIT' && undecided && liars.size > 1, `honest ${worker.person} is expelled: ${code}`);
  }

  #mayStop({ why }: StopReason): boolean {
    if (why === 'audit') {
      const liars = this.workers.filter((w) => w.traits.lies > 0);
      return liars.length > 0 && !(this.#ownerDecides && liars.every((w) => w.traits.bitClass === 'a'));
    }
    return this.scenario.poisoned !== undefined || this.#mayRefuse;
  }

  /** Whether refusals without cause may have been believed. */
  get #mayRefuse(): boolean {
    return !this.#ownerDecides && this.workers.some((w) => w.traits.refuses > 0);
  }

  #schedule(everyMs: number, run: () => void): void {
    if (everyMs === 0) return;
    this.world.after(-Math.log(1 - this.world.random()) * everyMs, () => {
      if (this.cluster.calm) return;
      run();
      this.#schedule(everyMs, run);
    });
  }

  #one(): SimulatedWorker | undefined {
    const alive = this.workers.filter((w) => w.alive);
    return alive.length > 0 ? this.world.pick(alive) : undefined;
  }

  #killOne(): void {
    const victim = this.#one();
    if (victim === undefined) return;
    victim.kill(this.world.pick([0, 10, 10, 30_000]));
    if (this.world.chance(0.8))
      this.world.after(this.world.integer(50, 5000), () => this.spawn(victim.traits, victim.person));
  }

  #collect(): void {
    this.ledger.check();
    for (const note of this.owner.notes) this.#notes.set(note, (this.#notes.get(note) ?? 0) + 1);
    const { parameterBuckets } = this.scenario;
    // Each worker sends a bucket once per assignment, or twice if it repeats itself. All are handled within 20 ms.
    const bound = 4 * (parameterBuckets + 1) * (this.workers.length + 1);
    must(this.owner.mostHeld <= bound, `${this.owner.mostHeld} contributions were held at a time`);
  }

  run(): Outcome {
    const { world, scenario } = this;
    for (let events = 0; !this.owner.done && this.owner.stopped === undefined; events++) {
      must(world.next(), 'nothing will ever happen again');
      must(world.now < scenario.faultsUntilMs + PATIENCE_MS, `not done long after the last fault`);
      must(events < MOST_EVENTS, 'too much happens');
    }
    this.#collect();
    const { stopped, digest, round } = this.owner;
    const expected = plainDigest(scenario);
    const { falseUses, evaluationsRefused } = this.ledger;
    if (evaluationsRefused > 0) must(this.#mayRefuse, 'an evaluation is refused');
    if (stopped !== undefined) must(this.#mayStop(stopped), `it stops: ${JSON.stringify(stopped)}`);
    const liars = this.workers.filter((w) => w.traits.lies > 0);
    const alone = new Set(liars.map((w) => w.person)).size === 1 && liars.every((w) => w.traits.bitClass === 'a');
    if (scenario.audit === 1 && alone && this.#ownerDecides)
      must(this.ledger.falseUses.length === 0, 'a lie was used though everything is audited');
    if (stopped === undefined) {
      if (falseUses.length === 0 && evaluationsRefused === 0)
        must(digest === expected, `digest ${digest} instead of ${expected}`);
      // The last answers are on their way; afterwards nothing may be held.
      for (const end = world.now + 100; this.owner.held > 0 && world.now < end; ) must(world.next(), 'bytes are held');
      must(this.owner.held === 0, `${this.owner.held} contributions are held for ever`);
    }
    const { counters } = round;
    return {
      stopped,
      digest,
      expected,
      virtualMs: world.now,
      counters,
      notes: this.#notes,
      incarnations: this.#incarnation,
      ledger: this.ledger,
    };
  }
}

/** A schedule chosen entirely by the seed. Every eighth one has malicious workers. */
export const scenarioOf = (seed: number): Scenario => (seed % 8 === 7 ? hostileScenario(seed) : faultyScenario(seed));

function faultyScenario(seed: number): Scenario {
  const world = new World(seed ^ 0x5eed);
  const { chance, integer, pick } = {
    chance: (p: number) => world.chance(p),
    integer: (a: number, b: number) => world.integer(a, b),
    pick: <T>(all: readonly T[]) => world.pick(all),
  };
  const audit = chance(0.35) ? pick([0.1, 0.5, 1]) : 0;
  const sometimes = (p: number, value: number) => (chance(p) ? value : 0);
  const hostile = chance(0.5);
  const malice = (): Partial<WorkerTraits> => {
    if (!hostile || !chance(0.4)) return {};
    const returns = chance(0.5);
    return pick<Partial<WorkerTraits>>([
      { lies: 1 },
      { lies: 0.3, lie: pick([1, 1, 2, 3]) },
      { lies: 1, liesFrom: integer(1, 4) },
      { refuses: pick([0.2, 1]) },
      { stalls: 'idles', returns },
      { stalls: 'begins', returns, stallsAfter: integer(0, 3) },
      { stalls: 'part', returns, stallsAfter: integer(0, 3) },
      { stalls: 'hands-back', returns },
    ]);
  };
  const traits = (): WorkerTraits => ({
    ...HONEST,
    bitClass: chance(0.15) ? 'b' : 'a',
    microBatchMs: pick([5, 20, 100, 100, 1000, 8000]),
    latencyMs: pick([1, 5, 50, 300]),
    readMs: pick([10, 30, 30, 3000]),
    lifeMs: pick([0, 1000, 1000, 4000]),
    corrupts: sometimes(0.15, 0.1),
    duplicates: sometimes(0.3, 0.3),
    replays: sometimes(0.3, 0.3),
    impossible: sometimes(0.1, 0.1),
    spoilsWeights: sometimes(0.2, 0.1),
    ...malice(),
  });
  const ownerMs = chance(0.5) ? pick([10, 100, 2000]) : undefined;
  const workers = Array.from({ length: integer(1, 4) }, traits);
  return {
    seed,
    steps: integer(1, 4),
    microBatches: integer(1, 9),
    parameterBuckets: integer(1, 5),
    clips: chance(0.3),
    evaluationMicroBatches: chance(0.3) ? integer(1, 4) : 0,
    workers,
    persons: chance(0.25) ? workers.map(() => pick(['a classroom', 'another'])) : undefined,
    ownerMs,
    ownerFailsAtMs: ownerMs !== undefined && chance(0.1) ? integer(1, 10_000) : undefined,
    minWorkers: 1,
    audit,
    checkpointEvery: integer(1, 3),
    faultsUntilMs: pick([1000, 5000, 20_000]),
    killEveryMs: sometimes(0.5, pick([200, 1000, 4000])),
    pauseEveryMs: sometimes(0.4, pick([500, 2000])),
    breakEveryMs: sometimes(0.4, pick([300, 2000])),
    coordinatorKillEveryMs: sometimes(0.25, pick([2000, 6000])),
  };
}

/** A longer schedule with malicious workers, audits, restarts, and always more than one worker. */
function hostileScenario(seed: number): Scenario {
  const world = new World(seed ^ 0xbad);
  const ownerMs = world.chance(0.6) ? world.pick([10, 100]) : undefined;
  const good: WorkerTraits = { ...HONEST, bitClass: 'a', microBatchMs: 50, latencyMs: 10 };
  const bad = (): WorkerTraits => ({
    ...good,
    microBatchMs: world.pick([20, 50]),
    ...world.pick<Partial<WorkerTraits>>([
      { lies: 1 },
      { lies: world.pick([0.1, 0.3]), liesFrom: world.integer(0, 2), lie: world.pick([1, 1, 2]) },
      { lies: world.pick([0.1, 0.3]) },
      { refuses: world.pick([0.05, 1]), stalls: world.pick(['no', 'part']), stallsAfter: 2 },
      { stalls: world.pick(['idles', 'begins', 'part', 'hands-back']), returns: world.chance(0.7) },
    ]),
  });
  const persons = ['an honest one', ...Array.from({ length: world.integer(1, 3) }, () => world.pick(['x', 'x', 'y']))];
  const workers = persons.map((_, i) => (i === 0 ? good : bad()));
  if (world.chance(0.5)) {
    workers.push(good);
    persons.push(world.pick(['another honest one', 'x']));
  }
  return {
    seed,
    steps: world.integer(6, 16),
    microBatches: world.integer(3, 8),
    parameterBuckets: world.integer(1, 3),
    clips: world.chance(0.3),
    evaluationMicroBatches: world.chance(0.2) ? 2 : 0,
    workers,
    persons,
    minWorkers: world.pick([1, workers.length]),
    audit: world.pick([0, 0.1, 0.5, 1]),
    ownerMs,
    checkpointEvery: world.integer(1, 3),
    faultsUntilMs: 20_000,
    killEveryMs: 0,
    pauseEveryMs: 0,
    breakEveryMs: world.chance(0.3) ? 3000 : 0,
    coordinatorKillEveryMs: world.chance(0.4) ? 1500 : 0,
  };
}

/** Runs a schedule to its end. Throws SimulationFailure, with the seed, if a guarantee is violated. */
export function simulate(scenario: Scenario, mutation?: Mutation, roundClass?: typeof Round): Outcome {
  try {
    return new Simulation(scenario, mutation, roundClass).run();
  } catch (error) {
    if (!(error instanceof Violation || error instanceof RangeError || error instanceof TypeError)) throw error;
    throw new SimulationFailure(`seed ${scenario.seed}: ${error.message} (LANTRAIN_SEED=${scenario.seed} replays it)`, {
      cause: error,
    });
  }
}
