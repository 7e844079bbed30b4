import { afterEach, beforeEach, expect, vi } from 'vitest';
import type { RunEvent, RunHooks, TrainRequest } from '../../src/index.js';

/** A run of a few seconds, as `SMALL` is for the command line. */
export const TINY_RUN: TrainRequest = {
  tokenizer: 'bytes',
  layers: 1,
  width: 32,
  heads: 2,
  context: 16,
  batch: 4,
  microBatch: 2,
  evalEvery: 4,
  evalBatches: 2,
  sampleTokens: 0,
  dropout: 0.1,
};

/** Fails each test that writes to its process's streams or leaves a listener on the process. */
export function undisturbedHost(): void {
  const written: unknown[] = [];
  let before: ReadonlyMap<string | symbol, number>;
  const listeners = () => new Map(process.eventNames().map((name) => [name, process.listenerCount(name)]));
  beforeEach(() => {
    before = listeners();
    for (const stream of [process.stdout, process.stderr])
      vi.spyOn(stream, 'write').mockImplementation((chunk) => {
        written.push(chunk);
        return true;
      });
  });
  afterEach(() => {
    vi.restoreAllMocks();
    expect(written.splice(0)).toEqual([]);
    expect(listeners()).toEqual(before);
  });
}

/** The events of a run, and hooks that collect them; `onStep` sees each step. */
export function watched(onStep: (step: number) => void = () => {}, more: RunHooks = {}) {
  const events: RunEvent[] = [];
  const onEvent = (event: RunEvent) => {
    events.push(event);
    if (event.event === 'step') onStep(event.step);
    more.onEvent?.(event);
  };
  return { events, hooks: { ...more, onEvent } };
}
