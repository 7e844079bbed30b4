import { LantrainError } from '../errors.js';
import type { TrainOptions } from '../train/options.js';
import { PRESETS, type PresetName } from '../train/presets.js';

/**
 * A resumed run keeps its own settings. Throws LT_USAGE_OPTION where `preset` would change a setting that was not given
 * explicitly. The same preset again is harmless.
 */
export function checkPresetOfResume(preset: PresetName, saved: TrainOptions, explicit: Partial<TrainOptions>): void {
  const wanted: Partial<TrainOptions> = PRESETS[preset];
  const others = (Object.keys(wanted) as (keyof TrainOptions)[]).filter(
    (name) => explicit[name] === undefined && wanted[name] !== saved[name],
  );
  if (others.length === 0) return;
  const [first] = others;
  const more = others.length > 1 ? ` and ${others.length - 1} more` : '';
  throw new LantrainError(
    'LT_USAGE_OPTION',
    `--preset ${preset} is not what this run was begun with (${first} is ${saved[first]} there and ${wanted[first]} in the preset${more}); leave --preset out, the run keeps its settings`,
  );
}
