/*
 * Finds the fastest of several kernels for one task on this adapter. Nothing here knows what the task is.
 *
 * The policy: the base, which is the kernel of the table, is examined first, then each candidate in the given order
 * (the most promising first). To examine a kernel is to compile it, run it and check its output. A kernel that is wrong
 * or does not compile takes no further part. The others are timed in rounds, once a round, in an order that rotates
 * from round to round, so that a disturbance hits all alike. A kernel drops out when its best time is more than
 * FIRST_ROUND_LIMIT times the leader's after the first round, or more than ROUND_LIMIT times after a later one. The
 * base never drops out.
 *
 * The contest ends after ROUNDS rounds or when the time is up. Candidates that were not examined by then are skipped;
 * the others are still timed FEWEST_ROUNDS times, unless that would take half the budget again. A candidate that was
 * timed less often does not win. A winner's median must be below WINNING_RATIO times the base's.
 */

const ROUNDS = 7;
const FEWEST_ROUNDS = 3;
const FIRST_ROUND_LIMIT = 3;
const ROUND_LIMIT = 1.25;
const WINNING_RATIO = 0.97;

/**
 * The check of a candidate's output. `wrong`: what is wrong with it; absent where it is right. `equal`: its bits are
 * the base's.
 */
export interface Examined {
  readonly wrong?: string;
  readonly equal: boolean;
}

export interface Contest {
  /** The task, for people. */
  readonly name: string;
  readonly base: string;
  readonly candidates: readonly string[];
  /** Compiles a candidate, runs it once and checks its output. A rejection counts as a wrong output. */
  examine(candidate: string): Promise<Examined>;
  /** Milliseconds of one run. */
  time(candidate: string): Promise<number>;
}

export interface CandidateResult {
  readonly candidate: string;
  /** Absent where the time was up before it was tried. */
  readonly examined?: Examined;
  /** The median; absent where it was never timed. */
  readonly milliseconds?: number;
}

/**
 * The results: the base's first, then the candidates' in their order. With a budget of 0 nothing is tried. `now`:
 * milliseconds.
 */
export async function holdContest(contest: Contest, budgetMs: number, now: () => number): Promise<CandidateResult[]> {
  const end = now() + budgetMs;
  const late = end + budgetMs / 2;
  const names = [contest.base, ...contest.candidates.filter((name) => name !== contest.base)];
  const examined = new Map<string, Examined>();
  for (const name of names) {
    if (now() >= end) break;
    examined.set(name, await contest.examine(name).catch((error) => ({ wrong: firstLine(error), equal: false })));
  }
  const times = new Map<string, number[]>();
  let running = names.filter((name) => examined.get(name)?.wrong === undefined && examined.has(name));
  const best = (name: string) => Math.min(...(times.get(name) ?? []));
  let round = 0;
  const isOver = () => now() >= (round < FEWEST_ROUNDS ? late : end);
  for (; round < ROUNDS && running.length > 1 && !isOver(); round++) {
    for (let i = 0; i < running.length && !isOver(); i++) {
      const name = running[(i + round) % running.length];
      times.set(name, [...(times.get(name) ?? []), await contest.time(name)]);
    }
    const leader = Math.min(...running.map(best));
    const limit = (round === 0 ? FIRST_ROUND_LIMIT : ROUND_LIMIT) * leader;
    // The base stays: winners are held against it.
    running = running.filter((name) => name === contest.base || best(name) <= limit);
  }
  if (round < FEWEST_ROUNDS && running.length > 1) for (const name of running) times.delete(name);
  return names.map((candidate) => {
    const measured = times.get(candidate);
    return {
      candidate,
      examined: examined.get(candidate),
      ...(measured ? { milliseconds: upperMedian(measured) } : {}),
    };
  });
}

/**
 * The fastest kernel whose output is right; without `anyBits` only kernels with the base's bits count. The base where
 * no other is clearly faster. Undefined where the base is wrong and no other may replace it.
 */
export function winnerOf([base, ...others]: readonly CandidateResult[], anyBits: boolean): string | undefined {
  const isBaseWrong = base.examined?.wrong !== undefined;
  const eligible = others.filter(
    ({ examined, milliseconds }) =>
      milliseconds !== undefined && examined && examined.wrong === undefined && (anyBits || examined.equal),
  );
  const limit = isBaseWrong ? Number.POSITIVE_INFINITY : WINNING_RATIO * (base.milliseconds ?? 0);
  const ms = (entry: CandidateResult) => entry.milliseconds ?? Number.POSITIVE_INFINITY;
  const fastest = eligible.filter((e) => ms(e) < limit).sort((a, b) => ms(a) - ms(b))[0];
  return fastest?.candidate ?? (isBaseWrong ? undefined : base.candidate);
}

function upperMedian(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0];
}
