import { describe, expect, test } from 'vitest';
import { parseMetrics } from '../../src/report/events.js';
import { decodeServerMessage } from '../../src/watch/messages.js';
import { noiseWords } from '../../src/watch/page/noise.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import { FACTS, stepEvent } from './helpers.js';

describe('the noise of rounding', () => {
  test.each([
    [0, 'rounding noise 0 % of the squared norm'],
    [0.0004, 'rounding noise under 1 % of the squared norm'],
    [0.03, 'rounding noise 3 % of the squared norm'],
    [0.3, 'rounding noise 30 % of the squared norm'],
    [0.31, 'rounding noise 31 % of the squared norm: healthy is up to 30 %'],
    [1, 'rounding noise 100 % of the squared norm: healthy is up to 30 %'],
    [2.5, 'rounding noise 250 % of the squared norm: more error than gradient'],
  ])('of %s reads as "%s"', (noise, words) => {
    expect(noiseWords(noise)).toBe(words);
  });

  test('a step may have it, as a number or null, and nothing else', () => {
    const line = (more: object) => JSON.stringify({ ...stepEvent(1), ...more });
    expect(parseMetrics(line({ noise: 0.25 }))).toEqual([{ ...stepEvent(1), noise: 0.25 }]);
    expect(parseMetrics(line({}))).toEqual([stepEvent(1)]);
    expect(parseMetrics(line({ noise: null }))).toEqual([{ ...stepEvent(1), noise: Number.NaN }]);
    expect(() => parseMetrics(line({ noise: 'much' }))).toThrow(
      expect.objectContaining({ code: 'LT_CHECKPOINT_CORRUPT', message: expect.stringContaining('noise') }),
    );
  });

  test("the page hears the last step's, also of a run on the disk, and nothing where there is none", () => {
    const telemetry = new Telemetry(FACTS, [stepEvent(1), { ...stepEvent(2), noise: 0.123456789 }]);
    expect(telemetry.status.noise).toBe(0.123457);
    const [, , update] = telemetry.snapshot();
    expect(decodeServerMessage(JSON.stringify(update))).toMatchObject({ status: { noise: 0.123457 } });
    telemetry.event({ ...stepEvent(3), noise: Number.NaN });
    expect(telemetry.status.noise).toBeNull();
    expect(decodeServerMessage(JSON.stringify(telemetry.snapshot()[2]))).toMatchObject({ status: { noise: null } });
    telemetry.event(stepEvent(4));
    expect(telemetry.status).not.toHaveProperty('noise');
  });
});
