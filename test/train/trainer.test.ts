import { expect, test } from 'vitest';
import { memoryTokens } from '../../src/data/token-file.js';
import type { MetricsEvent } from '../../src/report/metrics.js';
import { StepAbandoned, type TrainingEngine } from '../../src/train/engine.js';
import { BASE_OPTIONS } from '../../src/train/options.js';
import { RunClock } from '../../src/train/run-clock.js';
import type { RunConfig } from '../../src/train/run-config.js';
import { Trainer, type TrainerHooks } from '../../src/train/trainer.js';

const STEPS = 3;
const options = {
  ...BASE_OPTIONS,
  stride: 4,
  batch: 2,
  microBatch: 1,
  evalEvery: 2,
  sampleTokens: 0,
  checkpointEvery: '0',
};
const model = { vocabSize: 16, context: 4, width: 8, layers: 1, heads: 1, tie: true, qkvBias: true };
const config = { model, options, totalSteps: STEPS, stepsPerEpoch: 8 } as RunConfig;
const ids = memoryTokens(Uint16Array.from({ length: 80 }, (_, i) => i % 16));
const data = { train: ids, validation: ids, hash: '', description: '', tokens: 160, close() {} };

/** An engine that computes nothing. `inEvaluation` is called in each evaluation, with its number. */
function fake(inEvaluation: (n: number) => void = () => {}) {
  let abandoned = false;
  let evaluations = 0;
  const engine = {
    version: 0,
    lossScale: undefined,
    step: async (_batches: unknown, step: number) => {
      if (abandoned) throw new StepAbandoned();
      engine.version = step;
      return { loss: 1, gradNorm: 1 };
    },
    evaluate: async () => {
      inEvaluation(++evaluations);
      if (abandoned) throw new StepAbandoned();
      return 1;
    },
    holdState: <T>(read: () => Promise<T>) => read(),
    abandon: () => {
      abandoned = true;
    },
  };
  return engine;
}

function trainer(engine: ReturnType<typeof fake>) {
  const events: MetricsEvent[] = [];
  const hooks: TrainerHooks = {
    event: (event) => void events.push(event),
    checkpoint: async (step) => ({ written: Promise.resolve({ digest: `digest ${step}`, path: '' }) }),
    stop: new AbortController().signal,
    has: (kind, step) => events.some((event) => event.event === kind && event.step === step),
  };
  const made = new Trainer(engine as unknown as TrainingEngine, config, data, undefined);
  const kinds = () => events.map(({ event, step }) => `${event} ${step}`);
  return { made, hooks, kinds };
}

const WHOLE = ['step 1', 'eval 1', 'step 2', 'step 3', 'eval 3', 'checkpoint 3'];

test('a run is complete once the report on its last step is there', async () => {
  const { made, hooks, kinds } = trainer(fake());
  expect(await made.run(0, hooks)).toMatchObject({ step: STEPS, complete: true, digest: 'digest 3' });
  expect(kinds()).toEqual(WHOLE);
});

test("a step's event has the noise of rounding where the engine measures it, and only there", async () => {
  const engine = fake();
  const { step } = engine;
  const measured = async (batches: unknown, n: number) => ({
    ...(await step(batches, n)),
    ...(n > 1 && { noise: n / 8 }),
  });
  const { made, hooks } = trainer(Object.assign(engine, { step: measured }));
  const steps: object[] = [];
  await made.run(0, { ...hooks, event: (event) => void (event.event === 'step' && steps.push(event)) });
  expect(steps[0]).not.toHaveProperty('noise');
  expect(steps.slice(1)).toMatchObject([{ gradNorm: 1, noise: 0.25 }, { noise: 0.375 }]);
});

test('a run ended in the report on its last step is not complete, keeps the step, and has the report to write still', async () => {
  // A report has two evaluations, one of each part of the data.
  const engine = fake((n) => n === 4 && first.made.abandon());
  const first = trainer(engine);
  expect(await first.made.run(0, first.hooks)).toMatchObject({ step: STEPS, complete: false, digest: 'digest 3' });
  expect(first.kinds()).toEqual(WHOLE.filter((kind) => kind !== 'eval 3'));

  const goneOn = fake();
  goneOn.version = STEPS;
  const { made } = trainer(goneOn);
  expect(await made.run(STEPS, first.hooks)).toMatchObject({ step: STEPS, complete: true, digest: 'digest 3' });
  expect(first.kinds().filter((kind) => !kind.startsWith('checkpoint'))).toEqual(
    WHOLE.filter((kind) => !kind.startsWith('checkpoint')),
  );
});

test('an evaluation that is abandoned ends the run with the steps before it saved', async () => {
  const engine = fake((n) => n === 1 && first.made.abandon());
  const first = trainer(engine);
  expect(await first.made.run(0, first.hooks)).toMatchObject({ step: 1, complete: false, digest: 'digest 1' });
  expect(first.kinds()).toEqual(['step 1', 'checkpoint 1']);
});

test("neither waiting for workers nor evaluations, checkpoints and pauses count into a step's speed", async () => {
  const timed = { ...config, options: { ...options, checkpointEvery: '1' }, totalSteps: 4 } as RunConfig;
  let time = 0;
  const clock = new RunClock(() => time);
  const engine = {
    version: 0,
    holdState: <T>(read: () => Promise<T>) => read(),
    async step(_: unknown, step: number) {
      time += 500;
      if (step === 3) {
        clock.stand('waiting');
        time += 9000;
        clock.goOn('waiting');
      }
      this.version = step;
      return { loss: 1, gradNorm: 1 };
    },
    async evaluate() {
      time += 7000;
      // The run waits during an evaluation as well, and no step may seem shorter for it.
      clock.stand('waiting');
      time += 6000;
      clock.goOn('waiting');
      return 1;
    },
  };
  const events: MetricsEvent[] = [];
  await new Trainer(engine as unknown as TrainingEngine, timed, data, undefined).run(0, {
    event: (event) => void events.push(event),
    checkpoint: async () => {
      time += 3000;
      return { written: Promise.resolve({ digest: 'd', path: 'p' }) };
    },
    stop: new AbortController().signal,
    pause: async () => {
      time += 4000;
    },
    clock,
  });
  const speeds = events.flatMap((event) => (event.event === 'step' ? [event.tokensPerSecond] : []));
  // Each step has 8 tokens and takes half a second.
  expect(speeds).toEqual([16, 16, 16, 16]);
});
