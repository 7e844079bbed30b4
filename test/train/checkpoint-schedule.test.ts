import { expect, test } from 'vitest';
import { type CheckpointHooks, CheckpointSchedule } from '../../src/train/checkpoint-schedule.js';
import { StateGate } from '../../src/train/state-gate.js';

/** An engine whose state is its number of updates, and a disk that is as slow as the test wants it. */
function fake(every: string, from = 0) {
  const gate = new StateGate();
  const engine = {
    version: from,
    holdState: <T>(read: () => Promise<T>) => gate.read(read),
    update: (step: number) =>
      gate.update(() => {
        engine.version = step;
      }),
  };
  const events: number[] = [];
  const taken: { step: number; state: number; final: boolean; write(): void; fail(error: Error): void }[] = [];
  const hooks: CheckpointHooks = {
    event: ({ step }) => void events.push(step),
    checkpoint: async (step, final) => {
      const written = new Promise<{ digest: string; path: string }>((done, fail) => {
        const write = () => done({ digest: `digest ${step}`, path: `checkpoints/${step}` });
        taken.push({ step, state: engine.version, final, write, fail });
      });
      written.catch(() => undefined);
      return { written };
    },
  };
  const schedule = new CheckpointSchedule(hooks, engine, every, from);
  return { engine, schedule, hooks, events, taken, steps: () => taken.map(({ step }) => step) };
}

const settled = (ms = 0) => new Promise((go) => setTimeout(go, ms));

test('a schedule saves the last finished step in the middle of the next one', async () => {
  const { engine, schedule, taken } = fake('0');
  await engine.update(1);
  schedule.recorded(1);
  // Step 2 is being computed; its update has not begun.
  expect(await schedule.now()).toBe(1);
  expect(taken).toMatchObject([{ step: 1, state: 1, final: false }]);
  // Asked again, it has saved that step already.
  expect(await schedule.now()).toBe(1);
  expect(taken).toHaveLength(1);
});

test('a checkpoint waits for the events of a step whose update is in, so that what it holds is in the metrics before', async () => {
  const { engine, schedule, taken } = fake('0');
  await engine.update(1);
  schedule.recorded(1);
  await engine.update(2);
  const saved = schedule.now();
  await settled();
  expect(taken).toEqual([]);
  schedule.recorded(2);
  expect(await saved).toBe(2);
  expect(taken).toMatchObject([{ step: 2, state: 2 }]);
});

test('a schedule by the clock saves without a step that ends: a run may wait for workers for hours', async () => {
  const { engine, schedule, steps, taken } = fake('1s');
  await engine.update(1);
  schedule.recorded(1);
  await settled(1100);
  expect(steps()).toEqual([1]);
  taken[0].write();
  // There are no new steps, so nothing is written.
  await settled(1100);
  expect(steps()).toEqual([1]);
  await engine.update(2);
  schedule.recorded(2);
  await settled(1100);
  expect(steps()).toEqual([1, 2]);
  schedule.close();
});

test('one checkpoint at a time is on its way to the disk, while steps go on', async () => {
  const { engine, schedule, steps, taken, events } = fake('2');
  for (const step of [1, 2, 3]) {
    await engine.update(step);
    schedule.recorded(step);
    await schedule.after(step);
  }
  expect(steps()).toEqual([2]);
  await engine.update(4);
  schedule.recorded(4);
  const after = schedule.after(4);
  await settled();
  expect(steps()).toEqual([2]);
  taken[0].write();
  await after;
  expect(steps()).toEqual([2, 4]);
  const end = schedule.finish();
  taken[1].write();
  expect(await end).toBe('digest 4');
  expect(events).toEqual([2, 4]);
});

test('a run that fails saves the steps that it has done', async () => {
  const { engine, schedule, taken } = fake('0');
  await engine.update(1);
  schedule.recorded(1);
  const rescued = schedule.rescue();
  await settled();
  expect(taken).toMatchObject([{ step: 1, final: true }]);
  taken[0].write();
  await rescued;
});

test('a schedule saves nothing where the state is not that of the last recorded step, or the disk refuses', async () => {
  const ahead = fake('0');
  await ahead.engine.update(1);
  await ahead.schedule.rescue();
  expect(ahead.taken, 'nothing was recorded').toEqual([]);

  const behind = fake('0');
  await behind.engine.update(1);
  behind.schedule.recorded(1);
  behind.engine.version = 2;
  await behind.schedule.rescue();
  expect(behind.taken).toEqual([]);

  const full = fake('1');
  await full.engine.update(1);
  full.schedule.recorded(1);
  await full.schedule.after(1);
  full.taken[0].fail(new Error('no space left'));
  await settled();
  expect(() => full.schedule.recorded(2)).toThrow('no space left');
  await full.schedule.rescue();
  expect(full.taken).toHaveLength(1);
});

test('a checkpoint that fails before it is on its way ends the run, though whoever asked for it does not wait', async () => {
  const { engine, schedule, hooks } = fake('0');
  hooks.checkpoint = () => Promise.reject(new Error('no space left'));
  await engine.update(1);
  schedule.recorded(1);
  schedule.now().catch(() => undefined);
  await settled();
  expect(() => schedule.recorded(2)).toThrow('no space left');
  // It does not try that again.
  hooks.checkpoint = () => expect.unreachable('the disk is full');
  await schedule.rescue();
});

test('nothing is saved again for a run that goes on and is asked before its first step', async () => {
  const { schedule, taken } = fake('0', 5);
  expect(await schedule.now()).toBe(5);
  await schedule.rescue();
  expect(taken).toEqual([]);
});
