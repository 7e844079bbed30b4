import type { WorkerState } from '../../src/watch/messages.js';
import type { Telemetry } from '../../src/watch/server/telemetry.js';
import type { LiveWorker } from '../../src/watch/server/worker-list.js';
import { stepEvent } from './helpers.js';

/** A spike among smooth losses. */
export const SPIKE = { step: 3010, loss: 17, gradNorm: 60 } as const;
/** More rounding noise than is healthy, whose words are longest. */
export const NOISE = 0.45;
export const LAST_STEP = 5009;
export const EVAL_EVERY = 50;
export const DIGEST = 'ab12'.repeat(16);
export const OWN_CLASS = 'a3f082fd8f0e-85729a31a95a';
/** A bit class that shares the beginning of both hashes with the first one. */
export const OTHER_CLASS = 'a3f082fd8f0e-85720badcafe';

/** The training loss of the evaluation after a step. */
export const trainLossAt = (step: number) => 1.9 + 3.5 / (1 + step / 300);
export const valLossAt = (step: number) => 2.1 + 3.3 / (1 + step / 300);

/** Workers with long names and adapters. */
export function playedWorkers(moment: number): LiveWorker[] {
  const worker = (id: number, name: string, adapter: string, bitClass: string, state: WorkerState): LiveWorker => ({
    id,
    name,
    adapter,
    bitClass,
    exact: bitClass === OWN_CLASS,
    state,
    dealt: 128,
    done: 77,
    roundTripMs: 123.5,
    totals: {
      workMs: moment * 180,
      computeMs: moment * 160,
      uploadMs: moment * 12,
      downloadMs: moment * 9,
      waitMs: 0,
      tokens: moment * (300 + 40 * id),
    },
  });
  return [
    worker(1, 'pequod', 'NVIDIA GeForce RTX 4070 Laptop GPU (NVIDIA: 580.65.06)', OWN_CLASS, 'computing'),
    worker(2, 'ishmael-macbook-pro-16-inch', 'apple: Apple M3 Max', OTHER_CLASS, 'evaluating'),
    worker(3, 'Chrome on Android x7f', 'qualcomm adreno-7xx', OWN_CLASS, 'uploading'),
    worker(4, 'starbuck', 'llvmpipe (LLVM 19.1.7, 256 bits)', OWN_CLASS, 'fenced'),
  ];
}

/** Plays several thousand steps of a running run on four workers, one of another bit class. */
export function playRun(telemetry: Telemetry): void {
  let moment = 1;
  telemetry.live = {
    bitClass: OWN_CLASS,
    workers: () => playedWorkers(moment),
    times: () => ({ sumMs: moment * 12, updateMs: moment * 7 }),
  };
  for (const { name, bitClass, exact } of playedWorkers(0)) {
    const owner = `the owner's is ${OWN_CLASS}: the digest is not exact from here`;
    if (!exact) telemetry.event({ event: 'mixed', step: 1, worker: name, reason: `bit class ${bitClass}, ${owner}` });
    telemetry.event({ event: 'join', step: 1, worker: name, reason: `bit class ${bitClass}` });
  }
  for (let step = 1; step <= LAST_STEP; step++) {
    telemetry.event({ ...stepEvent(step), ...(step === SPIKE.step ? SPIKE : {}), noise: NOISE });
    if (step % EVAL_EVERY === 1)
      telemetry.event({
        event: 'eval',
        step,
        trainLoss: trainLossAt(step),
        valLoss: valLossAt(step),
        tokensSeen: 1024 * step,
      });
    if (step % 1000 === 0) telemetry.event({ event: 'checkpoint', step, digest: DIGEST, path: `checkpoints/${step}` });
    if (step > LAST_STEP - 5) {
      moment++;
      telemetry.update();
    }
  }
  telemetry.event({
    event: 'sample',
    step: LAST_STEP,
    text: 'The whale was a great white thing of the sea. '.repeat(12),
  });
}
