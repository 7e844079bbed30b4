import { createHash } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import { cacheFolder, writeCacheFile } from '../data/cache-folder.js';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { adapterTitle, type Gpu } from '../gpu/device.js';
import { KernelCache, type ShaderTexts } from '../gpu/kernel.js';
import type { ModelConfig } from '../model/config.js';
import { isMatmulVariant, type MatmulVariant, shapeClass, variantFor } from '../model/matmul-plan.js';
import type { Plan } from '../model/plan.js';
import { type Product, trainingProducts } from '../model/products.js';
import type { BatchShape } from '../model/shape.js';
import { version } from '../node/version.js';
import { type CandidateResult, holdContest, winnerOf } from './contest.js';
import {
  flopsOf,
  hasLongShots,
  MatmulContest,
  matmulCandidates,
  matmulClasses,
  withVariants,
} from './matmul-contest.js';

/** Time for all contests of a model together: where the user asked for tuning, and where commands tune unasked. */
const ASKED_MS = 40_000;
const OWN_MS = { software: 8_000, hardware: 20_000 };

const CandidateResultSchema: z.ZodType<CandidateResult> = z.object({
  candidate: z.string().refine(isMatmulVariant),
  examined: z.object({ wrong: z.string().optional(), equal: z.boolean() }).optional(),
  milliseconds: z.number().positive().optional(),
});

const CacheSchema = z.object({ contests: z.record(z.string(), z.array(CandidateResultSchema).min(1)) });

/** The result for one shape class. */
export interface Tuned {
  readonly product: Product;
  readonly entries: readonly CandidateResult[];
  readonly winner: string | undefined;
}

export interface TuningRequest {
  readonly gpu: Gpu;
  readonly shaders: ShaderTexts;
  readonly model: ModelConfig;
  readonly shape: BatchShape;
  /** The plan to improve on. */
  readonly plan: Plan;
  /** Also tries variants whose bits differ from the plan's. */
  readonly anyBits: boolean;
  /** Also tunes shape classes of which some candidates are untried because the time was up before. */
  readonly again?: boolean;
  /** Time for all contests together; by default what commands take. */
  readonly budgetMs?: number;
  /** Called before each contest that is held now; results from the cache are not counted. */
  readonly onProgress?: (done: number, total: number) => void;
  readonly onNote?: (line: string) => void;
}

/**
 * The best plan found on this adapter, now or before, from the user's cache. Throws LT_GPU_ERROR where a kernel of
 * `plan` computes wrongly and no other may replace it.
 */
export async function tune(request: TuningRequest): Promise<{ readonly plan: Plan; readonly tuned: readonly Tuned[] }> {
  const { gpu, shaders, model, shape, plan, anyBits, again, onProgress, onNote } = request;
  const cache = openCache(gpu, shaders, onNote);
  const products = matmulClasses(trainingProducts(model, shape, plan));
  const keyOf = (product: Product) =>
    `${shapeClass(product)}${times(product)} ${variantFor(plan.matmul, product)} ${product.portable ? 'portable' : anyBits ? 'any bits' : 'equal bits'}`;
  const isContested = (product: Product) => {
    const base = variantFor(plan.matmul, product);
    return matmulCandidates(gpu.adapter, product, base, anyBits).length > 0;
  };
  const isOpen = (product: Product) => {
    const entries: readonly CandidateResult[] | undefined = cache.contests[keyOf(product)];
    return entries === undefined || (again && entries.some(({ examined }) => examined === undefined));
  };
  const open = products.filter((product) => isContested(product) && isOpen(product));
  // Long shots are tried for the last class only, when all others are settled.
  const longShot = anyBits && hasLongShots(gpu.adapter) ? products.at(-1) : undefined;
  const kernels = new KernelCache(gpu, shaders);
  const own = gpu.adapter.software ? OWN_MS.software : OWN_MS.hardware;
  const now = () => performance.now();
  const start = now();
  const end = start + (request.budgetMs ?? (anyBits ? ASKED_MS : own));
  for (const [i, product] of open.entries()) {
    onProgress?.(i, open.length);
    const contest = await MatmulContest.open(kernels, plan, product, anyBits, product === longShot);
    try {
      const budgetMs = Math.max(0, end - now()) / (open.length - i);
      cache.contests[keyOf(product)] = await holdContest(contest, budgetMs, now);
    } finally {
      contest.close();
    }
  }
  if (open.length > 0) {
    onProgress?.(open.length, open.length);
    await cache.save();
  }
  const tuned = products
    .filter((product) => keyOf(product) in cache.contests)
    .map((product): Tuned => {
      const entries = cache.contests[keyOf(product)];
      return { product, entries, winner: winnerOf(entries, anyBits && !product.portable) };
    });
  const winners = new Map<string, MatmulVariant>();
  for (const { product, entries, winner } of tuned) {
    if (winner === undefined)
      throw new LantrainError(
        'LT_GPU_ERROR',
        `the kernel ${entries[0].candidate} computes ${shapeClass(product)} wrongly on this adapter: ` +
          `${entries[0].examined?.wrong}; update its driver${anyBits ? '' : ', or try --tune'}`,
      );
    if (winner !== entries[0].candidate && isMatmulVariant(winner)) winners.set(shapeClass(product), winner);
  }
  if (open.length > 0) {
    const untried = open.filter((p) => cache.contests[keyOf(p)].some(({ examined }) => examined === undefined)).length;
    onNote?.(
      `tuning   ${open.length} kinds of matrix products in ${((now() - start) / 1000).toFixed(1)} s: ` +
        `${winners.size} of ${products.length} get another kernel than the table's` +
        (untried > 0 ? `; for ${untried} the time did not reach to try all` : ''),
    );
  }
  return { plan: winners.size > 0 ? withVariants(plan, winners) : plan, tuned };
}

interface TuningCache {
  readonly contests: Record<string, readonly CandidateResult[]>;
  save(): Promise<void>;
}

/** The cached results of this adapter and driver with these shaders. */
function openCache({ adapter }: Gpu, shaders: ShaderTexts, onNote?: (line: string) => void): TuningCache {
  const identity = JSON.stringify([version(), adapter, Object.entries(shaders).sort()]);
  const name = createHash('sha256').update(identity).digest('hex').slice(0, 24);
  const path = join(cacheFolder(), 'tuning', `${name}.json`);
  let contests: Record<string, readonly CandidateResult[]> = {};
  if (existsSync(path))
    try {
      contests = CacheSchema.parse(JSON.parse(readRegular(path).toString('utf8'))).contests;
    } catch {
      onNote?.(`the tuning cache ${path} is damaged and ignored`);
    }
  return {
    contests: { ...contests },
    async save() {
      const text = JSON.stringify({ adapter: adapterTitle(adapter), contests: this.contests }, null, 1);
      try {
        await writeCacheFile(path, (fd) => writeFileSync(fd, text));
      } catch (error) {
        onNote?.(`tuning is not remembered: ${reason(error)}`);
      }
    },
  };
}

/** Whether commands tune unasked: always, unless LANTRAIN_TUNE is `off`. */
export function tunesUnasked(): boolean {
  return process.env.LANTRAIN_TUNE !== 'off';
}

/** A readable table of all candidates. */
export function tuningTable(tuned: readonly Tuned[]): string {
  const lines = [row(['product', 'candidate', 'ms', 'GFLOP/s', 'checked', 'bits', ''])];
  for (const { product, entries, winner } of tuned)
    entries.forEach(({ candidate, examined, milliseconds }, i) => {
      const { m, n, k } = product;
      const name = `${product.label} ${product.layout} ${m}x${n}x${k}${times(product)}`;
      lines.push(
        row([
          i === 0 ? name : '',
          candidate,
          milliseconds?.toFixed(3) ?? '',
          milliseconds === undefined ? '' : (flopsOf(product) / milliseconds / 1e6).toFixed(1),
          examined === undefined ? 'not tried' : (examined.wrong ?? 'right'),
          examined === undefined || examined.wrong !== undefined ? '' : examined.equal ? 'equal' : 'others',
          candidate === winner ? 'winner' : i === 0 ? 'table' : '',
        ]),
      );
    });
  return lines.join('\n');
}

/** ` x 4` where four products are computed at once; empty for one. */
function times({ stack = 1 }: Product): string {
  return stack > 1 ? ` x ${stack}` : '';
}

function row([product, candidate, ms, gflops, ...rest]: readonly string[]): string {
  const [checked, bits, verdict] = rest;
  const cells = [product.padEnd(44), candidate.padEnd(18), ms.padStart(9), gflops.padStart(8)];
  return [...cells, checked.padEnd(9), bits.padEnd(6), verdict].join(' ').trimEnd();
}
