import fc from 'fast-check';
import { expect, test } from 'vitest';
import { courseOf } from '../../src/report/course.js';
import type { MetricsEvent } from '../../src/report/events.js';
import { LossCurves } from '../../src/report/loss-curves.js';

const step = (n: number, loss: number): MetricsEvent => ({
  event: 'step',
  step: n,
  loss,
  tokens: 1,
  tokensPerSecond: 1,
  lr: 1,
});
const evaluation = (n: number, loss: number): MetricsEvent => ({
  event: 'eval',
  step: n,
  trainLoss: loss,
  valLoss: null,
  tokensSeen: n,
});

test('curves are those of the course that a run has taken, however often it went back', () => {
  const events = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 99 })), {
    maxLength: 60,
  });
  fc.assert(
    fc.property(events, (drawn) => {
      const told = drawn.map(([isStep, n, loss]) => (isStep ? step(n, loss) : evaluation(n, loss)));
      const course = courseOf(told);
      const curves = LossCurves.of(told);
      expect(curves.steps((n, loss) => [n, loss])).toEqual(
        course.flatMap((event) => (event.event === 'step' ? [[event.step, event.loss]] : [])),
      );
      expect(curves.evaluations).toEqual(course.filter(({ event }) => event === 'eval'));
    }),
  );
});

test('a run of many steps keeps each of them', () => {
  const curves = LossCurves.of(Array.from({ length: 1000 }, (_, i) => step(i + 1, i)));
  expect(curves.steps((_, loss) => loss)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
});
