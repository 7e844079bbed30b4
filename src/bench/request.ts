import type { TrainOptions } from '../train/options.js';
import type { PresetName } from '../train/presets.js';

export interface BenchRequest {
  readonly preset: PresetName;
  readonly explicit: Partial<TrainOptions>;
  /** Timed steps or repetitions; absent: chosen by time. */
  readonly steps?: number;
  readonly adapter?: string;
  /** `auto`, or a JSON file. */
  readonly plan?: string;
}

/** The results of a benchmark: events for programs, lines for people. */
export interface BenchReport {
  readonly events: readonly object[];
  readonly lines: readonly string[];
}

/** Makes a callback for the progress of the work called `label`. */
export type Progress = (label: string) => (done: number, total: number) => void;
