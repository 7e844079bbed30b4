import { afterEach, expect, test, vi } from 'vitest';
import type { Dataset } from '../../src/data/dataset.js';
import { memoryTokens } from '../../src/data/token-file.js';
import type { MetricsEvent } from '../../src/report/metrics.js';
import type { TrainingEngine } from '../../src/train/engine.js';
import type { RunConfig } from '../../src/train/run-config.js';
import { Trainer } from '../../src/train/trainer.js';

afterEach(() => void vi.restoreAllMocks());

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
    checkpointEvery: 'never',
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
  let clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  const engine = {
    waitedMs: 0,
    async step(_: unknown, step: number) {
      clock += 500;
      if (step === 3) {
        clock += 9000;
        this.waitedMs += 9000;
      }
      return { loss: 1, gradNorm: 1 };
    },
    async evaluate() {
      clock += 7000;
      // In an evaluation it waits as well, of which no step is to be the shorter.
      this.waitedMs += 6000;
      return 1;
    },
  };
  const events: MetricsEvent[] = [];
  await new Trainer(engine as unknown as TrainingEngine, CONFIG, DATA, undefined).run(0, {
    event: (event) => void events.push(event),
    checkpoint: async () => {
      clock += 3000;
      return { written: Promise.resolve({ digest: 'd', path: 'p' }) };
    },
    stopping: () => false,
    between: async () => {
      clock += 4000;
      return 'go';
    },
  });
  const speeds = events.flatMap((event) => (event.event === 'step' ? [event.tokensPerSecond] : []));
  // 8 tokens in half a second each.
  expect(speeds).toEqual([16, 16, 16, 16]);
});
