import type { TrainOptions } from '../train/options.js';
import type { PresetName } from '../train/presets.js';

export interface BenchRequest {
  readonly preset: PresetName;
  readonly explicit: Partial<TrainOptions>;
  /** Timed steps, or repetitions; chosen by time when absent. */
  readonly steps?: number;
  readonly adapter?: string;
  /** `auto`, or a JSON file. */
  readonly plan?: string;
}

/** What came of a benchmark: for programs, and the same for people. */
export interface BenchReport {
  readonly events: readonly object[];
  readonly lines: readonly string[];
}

/** Made with what is being done, told how far it is. */
export type Progress = (label: string) => (done: number, total: number) => void;
