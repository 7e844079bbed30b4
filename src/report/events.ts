import { z } from 'zod';
import { LantrainError } from '../errors.js';

const Step = z.number().int().nonnegative();
/** JSON has no NaN: what was not finite was written as null. */
const Real = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

const StepEvent = z.looseObject({
  event: z.literal('step'),
  /** Counted from 1: the update of this number. */
  step: Step,
  /** Mean token loss of the global batch in nats, before the update. */
  loss: Real,
  /** Tokens of this step. */
  tokens: z.number(),
  tokensPerSecond: Real,
  lr: z.number(),
  /** Before clipping; absent where it was not computed. */
  gradNorm: Real.optional(),
});
const EvalEvent = z.looseObject({
  event: z.literal('eval'),
  step: Step,
  trainLoss: Real,
  /** Null without a validation part. */
  valLoss: z.number().nullable(),
  tokensSeen: z.number(),
});
const SampleEvent = z.looseObject({ event: z.literal('sample'), step: Step, text: z.string() });
const CheckpointEvent = z.looseObject({
  event: z.literal('checkpoint'),
  step: Step,
  digest: z.string(),
  path: z.string(),
});
const DoneEvent = z.looseObject({ event: z.literal('done'), step: Step, digest: z.string(), seconds: z.number() });
/**
 * What happens to a run beside its steps. `output`: standard output or error is gone, and the run goes on without it.
 * `inexact`: from its step on, the run has used what a worker computed that was found wrong. `awaited`: the step waits for
 * this worker alone.
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
  /** It stands for so many of one kind that came too fast to be written one by one; the fields are the last one's. */
  count: z.number().int().positive().optional(),
});
/** The first step in which something that nobody has confirmed came from a person, who is an address. */
const ContributedEvent = z.looseObject({ event: z.literal('contributed'), step: Step, person: z.string() });
/**
 * What each worker computed in a part of a run, from the event before to this one or from a start: sums over all of
 * them are those of the run.
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
/** A line of metrics.jsonl and of `--json`. */
export type MetricsEvent = z.infer<typeof MetricsEvent>;

/** Events that say that a run is not being trained any more. */
export const RUN_ENDS: ReadonlySet<string> = new Set<MetricsEvent['event']>(['done', 'stopped', 'failed']);

/** More than fit the memory of a process that makes a report of them. */
const MOST_EVENTS = 2 ** 22;

/**
 * The events in the text of a metrics.jsonl, whole or line by line. A half-written last line is left out, and so are
 * events of kinds that this version does not know. Throws LT_CHECKPOINT_CORRUPT, naming `path` and the line, for anything
 * else that is no event, and for more events than 2^22.
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
