/**
 * Attacks on a coordinator that has an honest worker, by strangers, holders of the token and pages. Prints what an
 * honest cluster loses by each. Ends with exit code 1 if anything is beyond its bound.
 *
 *     npm run attack -- [NAME...] [--seed 7]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AttackedCluster } from './attacked-cluster.js';
import { Attacker, buildAttacker } from './attacker.js';
import {
  attackTwice,
  COORDINATORS,
  type CoordinatorKind,
  LONG,
  type Outcome,
  PLANS,
  QUICK,
  type Times,
} from './attacks.js';
import { type LieOutcome, liePlans, lieRun } from './lies.js';

const LIE_STEPS = 200;

type Say = (line: string) => void;

/** The plans whose name is, or begins with, one of `names`; without names, all. */
function chosen<T extends { readonly name: string }>(plans: readonly T[], names: readonly string[]): readonly T[] {
  return names.length === 0
    ? plans
    : plans.filter(({ name }) => names.some((one) => name === one || name.split(' ')[0] === one));
}

const seconds = (ms: number) => (ms / 1000).toFixed(1);

function row({ plan, before, during, memoryMiB, joinMs, ends, faults }: Outcome): string {
  const result = faults.length > 0 ? `**${faults.join('; ')}**` : 'held';
  return `| ${plan.name} | ${plan.who} | ${before.toFixed(1)} | ${during.toFixed(2)} | ${memoryMiB.toFixed(0)} | ${seconds(joinMs)} | ${ends} | ${result} |`;
}

function lieRow({ plan, lies, found, isExact, isMarked, why, faults, code }: LieOutcome): string {
  const digest = isExact ? "train's" : isMarked ? why : code === 0 ? 'wrong' : 'stopped';
  const result = faults.length > 0 ? `**${faults.join('; ')}**` : 'held';
  return `| ${plan.name} | ${plan.liars.length} | ${plan.honest} | ${lies.join(', ')} | ${found} | ${digest} | ${result} |`;
}

/** Attacks a coordinator of each kind in turn, and starts another one if it has ended. Returns the faults. */
async function attackAll(
  program: string,
  names: readonly string[],
  seed: number,
  times: Times,
  say: Say,
): Promise<string[]> {
  const faults: string[] = [];
  const plans = chosen(PLANS, names);
  const endings: string[] = [];
  if (plans.length > 0) {
    say('| attack | by a | steps/s before | during | memory, MiB | join, s | its connections ended by | result |');
    say('| --- | --- | --- | --- | --- | --- | --- | --- |');
  }
  for (const coordinatorKind of Object.keys(COORDINATORS) as CoordinatorKind[]) {
    let cluster: AttackedCluster | undefined;
    let attacker: Attacker | undefined;
    const end = async () => {
      const running = cluster?.coordinator.running;
      const ending = await cluster?.end();
      await cluster?.remove();
      cluster = undefined;
      if (ending === undefined || !running) return;
      const kept = ending.isExact
        ? "digest and losses are train's"
        : ending.isMarked
          ? 'marked'
          : `WRONG: ${ending.why}`;
      endings.push(`${coordinatorKind}, ${ending.step} steps: ${kept}`);
      if (!ending.isExact && !ending.isMarked) faults.push(`${coordinatorKind}: ${ending.why}`);
    };
    try {
      for (const plan of plans.filter((one) => one.coordinatorKind === coordinatorKind)) {
        if (cluster !== undefined && (!cluster.coordinator.running || !(await cluster.stepsLater(3, times.afterMs))))
          await end();
        cluster ??= await AttackedCluster.open(COORDINATORS[coordinatorKind]);
        attacker ??= new Attacker(program);
        const outcome = await attackTwice(cluster, attacker, plan, seed, times);
        say(row(outcome));
        faults.push(...outcome.faults.map((fault) => `${plan.name}: ${fault}`));
      }
      await end();
    } finally {
      await cluster?.remove();
      await attacker?.kill();
    }
  }
  for (const ending of endings) say(`\n${ending}`);
  return faults;
}

async function lieAll(
  program: string,
  names: readonly string[],
  seed: number,
  steps: number,
  say: Say,
): Promise<string[]> {
  const faults: string[] = [];
  const plans = chosen(liePlans(steps), names);
  if (plans.length === 0) return faults;
  say(`\n| liars, ${steps} steps | liars | honest | lies each | found | digest | result |`);
  say('| --- | --- | --- | --- | --- | --- | --- |');
  for (const plan of plans) {
    const outcome = await lieRun(program, plan, seed);
    say(lieRow(outcome));
    faults.push(...outcome.faults.map((fault) => `${plan.name}: ${fault}`));
  }
  return faults;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string', default: '1' },
      quick: { type: 'boolean', default: false },
      steps: { type: 'string', default: `${LIE_STEPS}` },
    },
  });
  const known = [...PLANS, ...liePlans(1)].flatMap(({ name }) => [name, name.split(' ')[0]]);
  const unknown = positionals.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`no attack is called ${unknown.join(', ')}; there are ${[...new Set(known)].join(', ')}\n`);
    return 2;
  }
  const say: Say = (line) => void process.stdout.write(`${line}\n`);
  const program = await buildAttacker();
  try {
    const seed = Number(values.seed);
    const faults = [
      ...(await attackAll(program.path, positionals, seed, values.quick ? QUICK : LONG, say)),
      ...(await lieAll(program.path, positionals, seed, Number(values.steps), say)),
    ];
    return faults.length > 0 ? 1 : 0;
  } finally {
    program.remove();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  main().then(
    (code) => process.exit(code),
    (error: Error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
