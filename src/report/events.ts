import { z } from 'zod';
import { LantrainError } from '../errors.js';

const Step = z.number().int().nonnegative();
/** JSON has no NaN: numbers that are not finite are written as null. */
const Real = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

const StepEvent = z.looseObject({
  event: z.literal('step'),
  /** The step, from 1. */
  step: Step,
  /** Mean token loss of the global batch in nats, before the update. */
  loss: Real,
  /** Tokens in this step. */
  tokens: z.number(),
  tokensPerSecond: Real,
  /** The learning rate of its update. */
  lr: z.number(),
  /** The gradient's norm before clipping; absent where it was not computed. */
  gradNorm: Real.optional(),
  /** Low wire only: the expected squared error of rounding the gradient, over its squared norm. */
  noise: Real.optional(),
});
const EvalEvent = z.looseObject({
  event: z.literal('eval'),
  step: Step,
  /** Mean token loss in nats, as `valLoss`. */
  trainLoss: Real,
  /** Null without a validation part. */
  valLoss: z.number().nullable(),
  /** Tokens of all steps so far. */
  tokensSeen: z.number(),
});
const SampleEvent = z.looseObject({ event: z.literal('sample'), step: Step, text: z.string() });
const CheckpointEvent = z.looseObject({
  event: z.literal('checkpoint'),
  step: Step,
  /** SHA-256 of weights, moments and step, hex. */
  digest: z.string(),
  /** The checkpoint's folder. */
  path: z.string(),
});
/** The last step is done. `seconds`: the time since this start, without standstills. */
const DoneEvent = z.looseObject({ event: z.literal('done'), step: Step, digest: z.string(), seconds: z.number() });
/**
 * An event beside the steps. `output`: standard output or error is gone, and the run continues without it. `inexact`:
 * from its step on, the run has used a worker's result that was found wrong. `awaited`: the step waits for this worker
 * alone.
 */
const ClusterEvent = z.looseObject({
  event: z.enum([
    'join',
    'leave',
    'fence',
    'refuse',
    'mixed',
    'inexact',
    'awaited',
    'resume',
    'output',
    'stopped',
    'failed',
  ]),
  step: Step.optional(),
  worker: z.string().optional(),
  reason: z.string().optional(),
  /** The number of events of one kind that it stands for, where they came too fast; its fields are the last one's. */
  count: z.number().int().positive().optional(),
});
/** The first step with an unconfirmed contribution from a person (an address). */
const ContributedEvent = z.looseObject({ event: z.literal('contributed'), step: Step, person: z.string() });
/**
 * The work of each worker since the event before, or since a start. The run's totals are the sums over all of these
 * events.
 */
const WorkersEvent = z.looseObject({
  event: z.literal('workers'),
  step: Step,
  workers: z.array(
    z.looseObject({
      name: z.string(),
      adapter: z.string(),
      bitClass: z.string(),
      tokens: z.number(),
      computeMs: z.number(),
    }),
  ),
});

const MetricsEvent = z.discriminatedUnion('event', [
  StepEvent,
  EvalEvent,
  SampleEvent,
  CheckpointEvent,
  DoneEvent,
  ClusterEvent,
  ContributedEvent,
  WorkersEvent,
]);
const KINDS: ReadonlySet<unknown> = new Set([
  'step',
  'eval',
  'sample',
  'checkpoint',
  'done',
  'workers',
  'contributed',
  ...ClusterEvent.shape.event.options,
]);

export type StepEvent = z.infer<typeof StepEvent>;
export type EvalEvent = z.infer<typeof EvalEvent>;
export type SampleEvent = z.infer<typeof SampleEvent>;
export type CheckpointEvent = z.infer<typeof CheckpointEvent>;
export type DoneEvent = z.infer<typeof DoneEvent>;
export type WorkersEvent = z.infer<typeof WorkersEvent>;
export type ContributedEvent = z.infer<typeof ContributedEvent>;
export type ClusterEvent = z.infer<typeof ClusterEvent>;
/** One line of metrics.jsonl and of `--json`. */
export type MetricsEvent = z.infer<typeof MetricsEvent>;

/** Kinds of event that end a run. */
export const RUN_ENDS: ReadonlySet<string> = new Set<MetricsEvent['event']>(['done', 'stopped', 'failed']);

/** More events do not fit the memory of a process that makes a report. */
const MOST_EVENTS = 2 ** 22;

/**
 * Parses the text or the lines of a metrics.jsonl. A half-written last line is left out, and so are kinds of event that
 * this version does not know. Throws LT_CHECKPOINT_CORRUPT, naming `path` and the line, for any other line that is not
 * an event, and for more than 2^22 events.
 */
export function parseMetrics(text: string | Iterable<string>, path = 'metrics.jsonl'): MetricsEvent[] {
  const events: MetricsEvent[] = [];
  let i = -1;
  let noJson: LantrainError | undefined;
  for (const line of typeof text === 'string' ? text.split('\n') : text) {
    i++;
    if (line === '') continue;
    if (noJson !== undefined) throw noJson;
    if (events.length === MOST_EVENTS)
      throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} has more than ${MOST_EVENTS} events; cut it short`);
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      noJson = notAnEvent(path, i, 'no JSON');
      continue;
    }
    if (!KINDS.has((value as { event?: unknown } | null)?.event)) {
      if (typeof (value as { event?: unknown } | null)?.event === 'string') continue;
      throw notAnEvent(path, i, 'no event');
    }
    const parsed = MetricsEvent.safeParse(value);
    if (!parsed.success) throw notAnEvent(path, i, parsed.error.issues.map((issue) => issue.path.join('.')).join(', '));
    events.push(parsed.data);
  }
  return events;
}

function notAnEvent(path: string, line: number, what: string): LantrainError {
  return new LantrainError('LT_CHECKPOINT_CORRUPT', `${path}, line ${line + 1}, is not a metrics event: ${what}`);
}
