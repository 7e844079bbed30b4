import { printable, printableLine } from '../util/printable.js';
import type { MetricsEvent } from './events.js';

/** What a reporter knows of a run before its first event. */
export interface RunInfo {
  /** Printed first, such as the model, the data and where the run lies. */
  readonly title: string;
  /** The step that the run ends with. */
  readonly steps: number;
  /** The step that it starts or goes on from, 0 for a new run. */
  readonly firstStep: number;
  readonly stepsPerEpoch: number;
}

/** Epochs as people count them: step 1 lies in epoch 1, and so does the last step of it. */
export function epochOf(step: number, stepsPerEpoch: number): number {
  return Math.max(1, Math.ceil(step / stepsPerEpoch));
}

export const COUNT_SCALES: readonly (readonly [number, string])[] = [
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** `3.2k`, `512`, `1.25M`: three digits at most. */
export function formatCount(value: number): string {
  if (!Number.isFinite(value)) return '?';
  for (const [scale, unit] of COUNT_SCALES)
    if (value >= scale * 0.9995) return Number((value / scale).toPrecision(3)) + unit;
  return String(value < 10 ? Number(value.toPrecision(2)) : Math.round(value));
}

/** `830 kB`, `22 MB`, `1.25 GB`, of 1000 each: memory and files alike. */
export function formatBytes(bytes: number): string {
  if (bytes < 999_500) return `${(bytes / 1e3).toFixed(0)} kB`;
  return bytes < 999_500_000 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** `1d 02h`, `3h 05m`, `2m 10s`, `9s`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const s = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  if (s >= 86_400) return `${Math.floor(s / 86_400)}d ${two(Math.floor((s % 86_400) / 3600))}h`;
  if (s >= 3600) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${s}s`;
}

export function formatLoss(loss: number): string {
  return Number.isFinite(loss) ? loss.toFixed(3) : String(loss);
}

/** A learning rate or a norm: three digits. */
export function formatReal(value: number): string {
  return String(Number(value.toPrecision(3)));
}

/** A share of 0 to 1. */
export function formatPercent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

/** What is not known, or not there. */
export const UNKNOWN = '–';

/** Why an event came about, and of how many of its kind it is the last; empty where neither is known. */
export function reasonOf(event: object): string {
  const { reason, count } = event as { readonly reason?: unknown; readonly count?: unknown };
  const times = typeof count === 'number' ? `the last of ${count.toLocaleString('en')}` : '';
  return [typeof reason === 'string' ? reason : '', times].filter((part) => part !== '').join(', ');
}

/** The first column of a line: what it is about. Names of nine letters and more push the rest aside. */
export function labelled(label: string, text: string): string {
  return `${label.padEnd(8)} ${text}`;
}

/** `  36/450`: as wide for each step of a run. */
export function stepOf(step: number, { steps }: RunInfo): string {
  return `${step}/${steps}`.padStart(2 * String(steps).length + 1);
}

/** An event as lines to read; undefined for steps, which are the progress line's business. */
export function describe(event: MetricsEvent, info: RunInfo): string | undefined {
  switch (event.event) {
    case 'step':
    case 'workers':
    case 'contributed':
      return undefined;
    case 'eval': {
      const validation = event.valLoss === null ? '' : `   validation ${formatLoss(event.valLoss)}`;
      const losses = `training ${formatLoss(event.trainLoss)}${validation}`;
      return labelled('eval', `${stepOf(event.step, info)}   ${losses}   ${formatCount(event.tokensSeen)} tokens seen`);
    }
    case 'sample':
      return `${labelled('sample', `step ${event.step}`)}\n${indent(printable(event.text))}`;
    case 'checkpoint':
      return printableLine(labelled('saved', `${stepOf(event.step, info)}   ${event.path}`));
    case 'done':
      // The time is this start's, and so are not all steps of a run that was resumed.
      return labelled('done', `${event.step} steps${since(info)} in ${formatDuration(event.seconds)}`);
    default: {
      const parts = [
        event.worker,
        event.step === undefined ? undefined : `step ${event.step}`,
        reasonOf(event) || undefined,
      ];
      return printableLine(labelled(event.event, parts.filter((part) => part !== undefined).join('   ')).trimEnd());
    }
  }
}

function since({ firstStep }: RunInfo): string {
  return firstStep > 0 ? `, from step ${firstStep} on,` : '';
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ');
}
