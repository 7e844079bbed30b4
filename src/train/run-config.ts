import { z } from 'zod';
import { ATTENTION_VARIANTS, KEPT_ATTENTION_VARIANTS } from '../model/attention.js';
import { BOUNDS, ModelSchema, upTo } from '../model/config.js';
import { EVERY_PRODUCT, isMatmulVariant, MATMUL_PATTERN } from '../model/matmul-plan.js';
import { cutsOf, PLAN_VERSION, type Plan } from '../model/plan.js';
import { TRAIN_OPTION_NAMES, TRAIN_OPTIONS, TrainOptionsSchema } from './options.js';

/** Beyond the workgroups and buffers of any adapter. */
const MOST_LANES = 2 ** 10;
const MOST_VALUES = 2 ** 32;
/** The fewest values of a binding or a buffer: smaller ones would cut a model into too many. */
const FEWEST_VALUES = 2 ** 12;

/** Far beyond the products of a model, some dozens. */
const MOST_RULES = 1000;

const MatmulTableSchema = z
  .array(
    z.tuple([
      z.string().regex(MATMUL_PATTERN, 'is no pattern of matrix products'),
      z.string().refine(isMatmulVariant, { error: ({ input }) => `names a kernel that there is not: ${input}` }),
    ]),
  )
  .min(1)
  .max(MOST_RULES)
  .refine((rules) => rules.at(-1)?.[0] === EVERY_PRODUCT, `must end with the pattern ${EVERY_PRODUCT}`);

export const PlanSchema: z.ZodType<Plan> = z.object({
  version: z.literal(PLAN_VERSION, {
    error: ({ input }) =>
      input === undefined ? 'is missing' : `${input} is not that of this lantrain (${PLAN_VERSION})`,
  }),
  matmul: MatmulTableSchema,
  attention: z.enum([...ATTENTION_VARIANTS, ...KEPT_ATTENTION_VARIANTS]),
  rowLanes: upTo(MOST_LANES),
  rowsPerGroup: upTo(MOST_LANES),
  windowValues: upTo(MOST_VALUES).min(FEWEST_VALUES),
  slabValues: upTo(MOST_VALUES).min(FEWEST_VALUES),
  logitsValues: upTo(MOST_VALUES),
  columnRows: upTo(BOUNDS.rows),
});

/** The schema of a run's `config.json`. */
export const RunConfigSchema = z.object({
  /** The version of lantrain that began the run. */
  version: z.string(),
  model: ModelSchema,
  options: TrainOptionsSchema,
  plan: PlanSchema,
  data: z.object({ hash: z.string(), description: z.string() }),
  /** The Hugging Face folder that the weights came from, if any. */
  init: z.string().optional(),
  /** The adapter that began the run. */
  adapter: z.string(),
  totalSteps: upTo(BOUNDS.steps),
  stepsPerEpoch: upTo(Number.MAX_SAFE_INTEGER),
});

export type RunConfig = z.infer<typeof RunConfigSchema>;

/**
 * What must stay the same when a run is resumed: the model, the data, the plan and every option that changes bits. The number
 * of steps belongs to it only where the learning rate depends on it, and of the plan of a portable run only the cuts.
 */
export function identityOf(config: RunConfig): Record<string, unknown> {
  const bound = TRAIN_OPTION_NAMES.filter((name) => TRAIN_OPTIONS[name].changesBits);
  const options = Object.fromEntries(bound.map((name) => [name, config.options[name]]));
  const steps = config.options.schedule === 'constant' ? {} : { totalSteps: config.totalSteps };
  const plan = config.options.precision === 'portable' ? cutsOf(config.plan) : config.plan;
  return { model: config.model, data: config.data.hash, options, plan, ...steps };
}
