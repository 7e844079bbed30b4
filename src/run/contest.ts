/*
 * Which of several kernels for one task is the fastest on this adapter. Nothing here knows what the task is.
 *
 * The policy: the base (what the table says) is examined first, then each candidate: it is compiled, run and its output
 * checked; one that is wrong or does not compile never runs again. The others are timed in rounds, each once a round,
 * in an order that turns from round to round, so that a disturbance hits all alike. Whoever's best time is beyond
 * FIRST_ROUND_LIMIT of the leader's after the first round, or beyond ROUND_LIMIT after the second, is out. It ends after ROUNDS, or when
 * the time is up: then what was not examined yet is not tried, and the others are timed FEWEST_ROUNDS times all the same,
 * unless that takes half as long again; who was timed less often then wins nothing. A winner's median must be below WINNING_RATIO
 * of the base's. Candidates come in the order of their promise.
 */

const ROUNDS = 7;
const FEWEST_ROUNDS = 3;
const FIRST_ROUND_LIMIT = 3;
const ROUND_LIMIT = 1.25;
const WINNING_RATIO = 0.97;

/** What a candidate's output is: `wrong` says how, `equal` that its bits are the base's. */
export interface Examined {
  readonly wrong?: string;
  readonly equal: boolean;
}

export interface Contest {
  /** What is contested, in words. */
  readonly name: string;
  readonly base: string;
  readonly candidates: readonly string[];
  /** Compiles a candidate, runs it once and checks its output. A rejection is taken for a wrong output. */
  examine(candidate: string): Promise<Examined>;
  /** Milliseconds of one run. */
  time(candidate: string): Promise<number>;
}

export interface CandidateResult {
  readonly candidate: string;
  /** Absent where it was not tried: the time was up. */
  readonly examined?: Examined;
  /** The median; absent where it was never timed. */
  readonly milliseconds?: number;
}

/** The base first, then the candidates in their order. Without time nothing is tried. */
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
 * The fastest whose output is right; of the base's bits unless `anyBits`. The base itself where none is clearly faster,
 * and undefined where the base is wrong and nothing may stand in for it.
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
