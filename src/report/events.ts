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

/**
 * The events in the text of a metrics.jsonl. A half-written last line is left out, and so are events of kinds that this
 * version does not know. Throws LT_CHECKPOINT_CORRUPT, naming `path` and the line, for anything else that is no event.
 */
export function parseMetrics(text: string, path = 'metrics.jsonl'): MetricsEvent[] {
  const lines = text.split('\n');
  const last = lines.findLastIndex((line) => line !== '');
  const events: MetricsEvent[] = [];
  for (const [i, line] of lines.entries()) {
    if (line === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      if (i === last) break;
      throw notAnEvent(path, i, 'no JSON');
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
