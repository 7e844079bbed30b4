import { pasteable } from '../node/invocation.js';
import { inexactText } from '../report/exactness.js';
import { formatLoss, labelled } from '../report/format.js';
import type { EndEvent, InexactRun } from '../run/events.js';
import { workerLines } from './throughput.js';

/** What is said of a run that has ended; `verb` is the command that goes on with it. */
export function endLines(end: EndEvent, verb: string): string[] {
  const { path, digest, planHash, inexact, cluster } = end;
  const exactness = inexact === undefined ? '' : `, not exact since step ${inexact.since}`;
  const counters = Object.entries(cluster?.counters ?? {}).map(([name, count]) => `${name} ${count}`);
  return [
    ...lossLines(end),
    labelled('digest', `${digest} (${planHash === null ? 'portable' : `plan ${planHash.slice(0, 12)}`})${exactness}`),
    ...whereLines(end, verb),
    ...workerLines(cluster?.workers ?? []),
    ...(counters.length > 0 ? [labelled('counters', counters.join(', '))] : []),
    ...(cluster?.mixed ? [labelled('mixed', 'workers of other bit classes took part: the digest is not exact')] : []),
    ...(inexact === undefined ? [] : [labelled('inexact', remarkOf(path, inexact, verb))]),
  ];
}

function lossLines({ evaluation, best }: EndEvent): string[] {
  if (evaluation === undefined) return [];
  const { step, trainLoss, valLoss } = evaluation;
  const least = best === undefined || best.step === step ? '' : ` (best ${formatLoss(best.loss)} at step ${best.step})`;
  const validation = valLoss === null ? '' : `, validation ${formatLoss(valLoss)}${least}`;
  return [labelled('loss', `training ${formatLoss(trainLoss)}${validation}`)];
}

function whereLines({ path, complete, step, totalSteps, isExtendable, prompt }: EndEvent, verb: string): string[] {
  const resume = [verb, '--resume', path];
  if (!complete) return [`stopped after step ${step} of ${totalSteps}; go on with: ${pasteable(resume)}`];
  return [
    labelled('run', `${path}: report.html, loss.svg, samples.txt, metrics.jsonl, checkpoints/`),
    labelled('try', pasteable(['generate', '--run', path, '--prompt', prompt])),
    ...(isExtendable ? [labelled('or', pasteable([...resume, '--steps', String(2 * totalSteps)]))] : []),
  ];
}

/** What a run's mark says, and how to go back before it. */
export function remarkOf(path: string, inexact: InexactRun, verb: string): string {
  return `${inexactText(inexact)}; ${wayBack(path, inexact, verb)}`;
}

function wayBack(path: string, { good, bad }: InexactRun, verb: string): string {
  if (good === undefined) return 'no checkpoint of before is kept: train it anew';
  const remove = bad.length > 0 ? `remove ${bad.join(' and ')}, then ` : '';
  return `to go back to the checkpoint of step ${good}: ${remove}${pasteable([verb, '--resume', path])}`;
}
