import { formatPercent } from '../../report/format.js';

/** Up to here the rounding costs no quality: docs/lan.md. */
const HEALTHY = 0.3;
/** From here on there is more rounding error than gradient. */
const DOMINANT = 1;

/** What a step's `noise` means, for people. */
export function noiseWords(noise: number): string {
  const share = noise > 0 && noise < 0.01 ? 'under 1 %' : formatPercent(noise);
  const verdict =
    noise > DOMINANT
      ? ': more error than gradient'
      : noise > HEALTHY
        ? `: healthy is up to ${formatPercent(HEALTHY)}`
        : '';
  return `rounding noise ${share} of the squared norm${verdict}`;
}
