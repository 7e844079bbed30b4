import type { MicroBatch } from '../../src/model/gpt.js';
import type { StepReport } from '../../src/model/sums.js';
import { packLoss } from '../exchange/blocks.js';
import { type ContributionHeader, encodeFrame, HEADER_BYTES, sealFrame } from '../protocol/frame.js';
import type { MicroBatchData, Welcome } from '../protocol/protocol.js';
import { unpackWindows } from '../protocol/tokens.js';
import type { WorkerConnection } from '../transport/connection.js';
import type { WorkerOptions } from './options.js';
import { Upload } from './upload.js';
import type { WeightsLoop } from './weights-loop.js';
import type { Work } from './work.js';
import type { WorkTimes } from './work-times.js';
import type { GradientEngine, ScaledBatch, WorkerEngine } from './worker-engine.js';
import type { WorkerState } from './worker-state.js';

/** Everything that a worker computes with once it is set up for a run. */
export interface ComputeContext {
  readonly connection: WorkerConnection;
  readonly welcome: Welcome;
  readonly engine: WorkerEngine;
  readonly state: WorkerState;
  readonly weights: WeightsLoop;
  readonly times: WorkTimes;
  readonly options: Pick<WorkerOptions, 'onNote' | 'drag'>;
}

/** Names of tensors in a refusal; the coordinator shows them. */
const MOST_NAMED = 3;

/** Largest number of stacks of an evaluation that are queued on the adapter, as in one process alone. */
const MOST_QUEUED_STACKS = 2;

/** The sealed frame of one bucket's sums as the engine has them now. The last bucket is the loss. */
export async function contributionOf(
  engine: GradientEngine,
  header: ContributionHeader,
  losses: { readonly lossFixed: bigint; readonly halvings: number },
): Promise<Uint8Array> {
  const { bucket } = header;
  if (bucket === engine.packer.buckets.length) return encodeFrame(header, packLoss(losses.lossFixed, losses.halvings));
  const message = await engine.packer.pack(bucket, HEADER_BYTES);
  sealFrame(message, header);
  return message;
}

/** Names of the tensors that are not finite or too large, for people. */
export function namesOfWrong({ nonFinite }: StepReport): string {
  return nonFinite.slice(0, MOST_NAMED).join(', ');
}

/**
 * Computes a step's assignment and contributes it. Once nothing is left to hand back, the set of micro-batches is
 * fixed. So during the last pass each bucket is uploaded as soon as its sums are final.
 */
export async function computeStep(context: ComputeContext, work: Work): Promise<void> {
  const { connection, welcome, engine, state, weights, times, options } = context;
  const { step, buckets, scaleExponent } = work.dealt;
  const upload = new Upload(buckets);
  const scaled: ScaledBatch[] = [];
  let halvings = 0;
  let done = 0;
  let report: StepReport | undefined;
  const beginUpload = () =>
    upload.begin(async (bucket) => {
      if (work.revoked) return;
      const header = work.contribution(welcome.incarnation, bucket);
      const message = await contributionOf(engine, header, { lossFixed: report?.lossFixed ?? 0n, halvings });
      if (!work.revoked) await connection.sendFrame(message);
    });
  work.running = true;
  try {
    await weights.at(work.version);
    engine.gpt.submitWeights();
    engine.beginSums();
    const started = performance.now();
    const { downloadMs, waitMs } = times.started(started);
    const stepContext = { seed: welcome.seed, step, tokenWeight: 1 / welcome.tokensPerStep };
    while (!work.revoked) {
      const next = work.take(engine.gpt.stack, engine.gpt.shape.batch);
      if (next.length === 0) break;
      state.progress(work, done);
      const batches = unpackMicroBatches(context, work, next);
      if (scaleExponent !== undefined) {
        report = await engine.gradientByScale(batches[0], stepContext, scaleExponent, scaled);
        halvings += scaleExponent - scaled[scaled.length - 1].exponent;
      } else if (work.isFixed) {
        beginUpload();
        report = await engine.gradientByBucket(batches, stepContext, (bucket) => upload.add(bucket));
      } else report = await engine.gradient(batches, stepContext);
      if (report.nonFinite.length > 0) {
        await upload.giveUp();
        const { microBatch } = next[await engine.wrongOf(batches, stepContext)];
        state.refuse(work, microBatch, namesOfWrong(report));
        return;
      }
      done += next.length;
      state.progress(work, done);
      const drag = next.length * (options.drag ?? 0);
      if (drag > 0) await new Promise((go) => setTimeout(go, drag));
    }
    if (work.revoked || done === 0) return;
    const computed = performance.now();
    const computeMs = computed - started;
    const tokens = done * engine.gpt.rows;
    options.onNote?.({
      note: 'computed',
      step,
      tokens,
      milliseconds: computeMs,
      share: tokens / welcome.tokensPerStep,
    });
    if (!upload.begun) {
      // Either the rest was handed back during the last pass, or each micro-batch had to find its loss scale.
      beginUpload();
      for (const bucket of engine.packer.buckets.keys()) upload.add(bucket);
    }
    upload.add(engine.packer.buckets.length);
    await upload.end();
    const sent = performance.now();
    times.ended(sent);
    connection.send({ type: 'stats', computeMs, uploadMs: sent - computed, downloadMs, waitMs });
  } finally {
    await upload.giveUp();
    state.finish(work);
  }
}

/**
 * Computes the losses of an evaluation's assignment and reports their sum. Two stacks are queued, which keeps the
 * adapter busy; only the last is waited for.
 */
export async function computeLosses(context: ComputeContext, work: Work): Promise<void> {
  const { engine, state, weights } = context;
  work.running = true;
  try {
    await weights.at(work.version);
    engine.gpt.submitWeights();
    engine.beginSums();
    const queued: Promise<void>[] = [];
    let done = 0;
    for (;;) {
      if (queued.length === MOST_QUEUED_STACKS) await queued.shift();
      if (work.revoked) return;
      // Without dropout the slots say nothing, so any micro-batches make a stack. The rest may have been handed back meanwhile.
      const next = work.take(engine.gpt.stack);
      if (next.length === 0) break;
      state.progress(work, done);
      engine.gpt.submitLoss(unpackMicroBatches(context, work, next));
      const computed = engine.gpu.done().then(() => {
        done += next.length;
      });
      // A failure here is not lost: reading the report throws it as well.
      computed.catch(() => undefined);
      queued.push(computed);
    }
    const { lossFixed, nonFinite } = await engine.sums.readReport();
    if (!work.revoked) state.evaluated(work, lossFixed, nonFinite.length === 0);
  } finally {
    state.finish(work);
  }
}

/** The micro-batches of an assignment; only an evaluation's may be padded. */
function unpackMicroBatches(
  { welcome: { model, shape } }: ComputeContext,
  { dealt }: Work,
  some: readonly MicroBatchData[],
): MicroBatch[] {
  const windows = { vocabSize: model.vocabSize, context: shape.context };
  const padded = dealt.kind === 'evaluate';
  return some.map(({ ids, slot }) => ({ ...unpackWindows(ids, windows, shape.batch, padded), firstSlot: slot }));
}
