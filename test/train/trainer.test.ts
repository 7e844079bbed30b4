import { expect, test } from 'vitest';
import type { Dataset } from '../../src/data/dataset.js';
import { memoryTokens } from '../../src/data/token-file.js';
import type { MetricsEvent } from '../../src/report/metrics.js';
import type { TrainingEngine } from '../../src/train/engine.js';
import { RunClock } from '../../src/train/run-clock.js';
import type { RunConfig } from '../../src/train/run-config.js';
import { Trainer } from '../../src/train/trainer.js';

/** What the loop asks of a configuration. */
const CONFIG = {
  model: { context: 4 },
  options: {
    batch: 2,
    microBatch: 2,
    stride: 4,
    shuffle: false,
    seed: 1,
    evalEvery: 2,
    evalBatches: 1,
    sampleTokens: 0,
    checkpointEvery: '1',
    schedule: 'constant',
    lr: 1e-3,
    warmup: 0,
  },
  totalSteps: 4,
  stepsPerEpoch: 4,
} as unknown as RunConfig;
const TOKENS = memoryTokens(new Uint16Array(64));
const DATA = { train: TOKENS, validation: memoryTokens(new Uint16Array(0)) } as unknown as Dataset;

test("neither waiting for workers nor evaluations, checkpoints and pauses count into a step's speed", async () => {
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
      // In an evaluation it waits as well, of which no step is to be the shorter.
      clock.stand('waiting');
      time += 6000;
      clock.goOn('waiting');
      return 1;
    },
  };
  const events: MetricsEvent[] = [];
  await new Trainer(engine as unknown as TrainingEngine, CONFIG, DATA, undefined).run(0, {
    event: (event) => void events.push(event),
    checkpoint: async () => {
      time += 3000;
      return { written: Promise.resolve({ digest: 'd', path: 'p' }) };
    },
    stopping: () => false,
    pause: async () => {
      time += 4000;
    },
    clock,
  });
  const speeds = events.flatMap((event) => (event.event === 'step' ? [event.tokensPerSecond] : []));
  // 8 tokens in half a second each.
  expect(speeds).toEqual([16, 16, 16, 16]);
});
