/** The kernels of a run: the plan that its digest belongs to, and faster kernels with the same bits. */
import { createHash } from 'node:crypto';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { adapterTitle, type Gpu } from '../gpu/device.js';
import type { ModelConfig } from '../model/config.js';
import { defaultPlan, missingFor, type Plan, withOwnKernels } from '../model/plan.js';
import type { Precision } from '../model/precision.js';
import type { BatchShape } from '../model/shape.js';
import { pasteable } from '../node/invocation.js';
import { loadShaders } from '../node/shaders.js';
import { PlanSchema, type RunConfig } from '../train/run-config.js';
import { validate } from '../util/validate.js';
import { noting, progressing, type Tell } from './tell.js';
import { tune, tunesUnasked } from './tuning.js';

/** Inputs of the choice of a run's plan. */
export interface PlanSources {
  /** `auto`, or a JSON file. */
  readonly plan?: string;
  /**
   * True: the fastest kernels, whatever their bits. False: the plan's kernels. Undefined: the fastest kernels with the
   * plan's bits.
   */
  readonly tune?: boolean;
  /** The run to resume. */
  readonly saved?: RunConfig;
}

/** SHA-256 of the plan's JSON, keys sorted. */
export function planHash(plan: Plan): string {
  return createHash('sha256')
    .update(JSON.stringify(Object.entries(plan).sort()))
    .digest('hex');
}

/** Throws LT_USAGE_OPTION where a plan is asked for twice. */
export function checkTuning({ tune: asked, plan, saved }: PlanSources): void {
  if (!asked || (plan === undefined && saved === undefined)) return;
  const other = plan === undefined ? '--resume goes on with its kernels' : '--plan names them';
  throw new LantrainError('LT_USAGE_OPTION', `--tune chooses kernels, and ${other}; leave one of the two out`);
}

/**
 * The plan asked for, the resumed run's, or the adapter's own; a portable run takes the adapter's own kernels. Throws LT_USAGE_OPTION where a file holds no plan,
 * LT_RUN_MISMATCH where this adapter cannot run the plan.
 */
export function resolvePlan(
  { plan, saved }: Pick<PlanSources, 'plan' | 'saved'>,
  gpu: Gpu,
  precision: Precision,
): Plan {
  const own = defaultPlan(gpu.adapter);
  let chosen = plan === 'auto' ? own : (saved?.plan ?? own);
  if (plan === undefined && precision === 'portable') chosen = withOwnKernels(chosen, gpu.adapter);
  if (plan !== undefined && plan !== 'auto') {
    let json: unknown;
    try {
      json = JSON.parse(readRegular(plan).toString('utf8'));
    } catch (cause) {
      const why = cause instanceof SyntaxError ? 'this is not JSON' : reason(cause);
      throw new LantrainError(
        'LT_USAGE_OPTION',
        `--plan ${plan}: ${why}; ${pasteable(['doctor', '--tune', '--plan-out', plan])} writes one`,
        {
          cause,
        },
      );
    }
    // The file may be a run's config.json, whose `plan` is then taken.
    const inside = (json as { plan?: unknown } | null)?.plan;
    const parsed = validate(PlanSchema, inside ?? json);
    if (!parsed.ok) throw new LantrainError('LT_USAGE_OPTION', `--plan ${plan}: ${parsed.wrong}`);
    chosen = parsed.data;
  }
  const missing = missingFor(chosen, gpu.adapter);
  if (missing !== undefined)
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `the plan needs ${missing}, which ${adapterTitle(gpu.adapter)} has not; --plan auto takes this adapter's own plan${precision === 'portable' ? '' : ', whose bits differ'}`,
    );
  return chosen;
}

/**
 * `plan` with kernels that are faster on this adapter: with the same bits, or with any bits where tuning was asked for.
 */
export async function tunedPlan(
  asked: boolean | undefined,
  gpu: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  tell: Tell,
): Promise<Plan> {
  // Kernels are timed on float32, which may say nothing of float16.
  if (shape.precision === 'f16') return plan;
  // On software adapters the table's kernels have won everywhere so far.
  if (asked === false || (asked === undefined && (gpu.adapter.software || !tunesUnasked()))) return plan;
  const onProgress = progressing(tell, 'timing kernels, once on this adapter');
  const onNote = noting(tell);
  const request = { gpu, shaders: loadShaders(), model, shape, plan, anyBits: asked === true, onProgress, onNote };
  return (await tune(request)).plan;
}

/** Throws LT_USAGE_OPTION where float16 is asked for and the adapter or the width does not allow it. */
export function checkPrecision(gpu: Gpu, { precision }: BatchShape, width: number): void {
  if (precision !== 'f16') return;
  if (!gpu.has('shader-f16'))
    throw new LantrainError(
      'LT_USAGE_OPTION',
      `--precision f16 needs the feature shader-f16, which ${adapterTitle(gpu.adapter)} has not; --precision f32 runs everywhere`,
    );
  if (width % 2 !== 0)
    throw new LantrainError('LT_USAGE_OPTION', `--precision f16 needs an even --width, not ${width}`);
}
