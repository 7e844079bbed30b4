import type { StepEvent } from './events.js';
import { formatCount } from './format.js';
import { meanSpeed } from './speed.js';

const WIDTH = 760;
const HEIGHT = 120;
const AIR = 8;
const MOST_POINTS = 300;

/**
 * An SVG figure of tokens/s over the steps. The line is the mean of groups of neighbours, the band behind it reaches
 * from their slowest to their fastest. Empty for fewer than two steps.
 */
export function speedPlot(steps: readonly StepEvent[]): string {
  const size = Math.max(1, Math.ceil(steps.length / MOST_POINTS));
  const groups: { readonly mean: number; readonly least: number; readonly most: number }[] = [];
  for (let from = 0; from < steps.length; from += size) {
    const group = steps.slice(from, from + size);
    const speeds = group.map(({ tokensPerSecond }) => tokensPerSecond).filter(Number.isFinite);
    const least = speeds.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    const most = speeds.reduce((a, b) => Math.max(a, b), 0);
    groups.push({ mean: finite(meanSpeed(group)), least: finite(least), most });
  }
  if (groups.length < 2) return '';
  const highest = groups.reduce((most, group) => Math.max(most, group.most), 0);
  const point = (speed: number, i: number) => {
    const x = (WIDTH * i) / (groups.length - 1);
    return `${x.toFixed(1)},${(HEIGHT - (HEIGHT - AIR) * (speed / (highest || 1))).toFixed(1)}`;
  };
  const line = groups.map(({ mean }, i) => point(mean, i)).join(' ');
  const upper = groups.map(({ most }, i) => point(most, i));
  const lower = groups.map(({ least }, i) => point(least, i)).reverse();
  const band = size > 1 ? `<polygon class="band" points="${[...upper, ...lower].join(' ')}"/>` : '';
  const [first, last] = [steps[0].step, steps[steps.length - 1].step];
  return `<figure style="margin:0"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Tokens per second over the steps"><path d="M0 ${HEIGHT - 0.5}H${WIDTH}" stroke="var(--line)"/>${band}<polyline points="${line}" fill="none" stroke="var(--accent)" stroke-width="1.6"/></svg>
<figcaption>Tokens/s from step ${first.toLocaleString('en')} to ${last.toLocaleString('en')}; the fastest step had ${formatCount(highest)}.</figcaption></figure>`;
}

const finite = (value: number) => (Number.isFinite(value) ? value : 0);
