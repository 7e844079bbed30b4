import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { GpuHarness } from './harness.js';

const SPIN = `
@group(0) @binding(0) var<storage, read> turns: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn spin(@builtin(global_invocation_id) id: vec3u) {
  var x = id.x;
  for (var i = 0u; i < turns[0]; i++) { x = (x * 1664525u + 1013904223u) ^ (x >> 7u); }
  out[id.x] = x;
}`;

let harness: GpuHarness;
let list: DispatchList;
let turns: Awaited<ReturnType<GpuHarness['put']>>;
beforeAll(async () => {
  harness = await GpuHarness.open();
  turns = await harness.put(Uint32Array.of(1));
  list = new DispatchList();
  const bindings = { turns, out: await harness.zeros(64 * 64) };
  list.add({ shader: 'spin', entry: 'spin', constants: {}, bindings, groups: [64] });
  await list.prepare(new KernelCache(harness.gpu, { spin: SPIN }));
});

/** Keeps the adapter busy with `count` turns; returns the wait's milliseconds. */
async function spin(count: number): Promise<number> {
  const start = performance.now();
  harness.gpu.write(turns, Uint32Array.of(count));
  list.submit(harness.gpu);
  await harness.gpu.done();
  return performance.now() - start;
}

/** Turns that take the adapter about `milliseconds`. */
async function calibrated(milliseconds: number): Promise<number> {
  let count = 100_000;
  await spin(count);
  for (;;) {
    const elapsed = await spin(count);
    if (elapsed > 100) return Math.min(2 ** 32 - 1, Math.ceil((count * milliseconds) / elapsed));
    count *= 4;
  }
}

/** CPU milliseconds of this process's JavaScript thread; on Linux without the driver's threads. */
function threadMs(): number | undefined {
  if (process.platform !== 'linux') return undefined;
  // utime and stime are fields 14 and 15; the name before them ends with the last parenthesis (proc(5)).
  const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

describe('while the adapter works', () => {
  test('the JavaScript thread leaves a core to others, in a wait of more than 2 s', async () => {
    const measure = async (count: number) => {
      const before = threadMs();
      const loop = performance.eventLoopUtilization();
      const elapsed = await spin(count);
      const { utilization } = performance.eventLoopUtilization(loop);
      const used = before === undefined ? 0 : (threadMs() ?? 0) - before;
      return { elapsed, utilization, used };
    };
    const count = await calibrated(3000);
    let measured = await measure(count);
    // Calibrated while others used the machine.
    if (measured.elapsed < 2000) measured = await measure(Math.min(2 ** 32 - 1, 3 * count));
    const { elapsed, utilization, used } = measured;
    expect(elapsed).toBeGreaterThan(2000);
    // Polling by setImmediate takes all of a core; by timer 2 to 6 %, most where others share the processor.
    expect(used / elapsed).toBeLessThan(0.2);
    // This includes time in which others kept the thread from running.
    expect(utilization).toBeLessThan(0.2);
  });

  test('everybody else keeps an immediate setImmediate while the adapter works', async () => {
    const count = await calibrated(1500);
    const state = { done: false };
    const wait = spin(count).then(() => {
      state.done = true;
    });
    const start = performance.now();
    for (let i = 0; i < 1000; i++) await new Promise((resolve) => setImmediate(resolve));
    // Through a timer of a millisecond these would take more than a second.
    expect(performance.now() - start).toBeLessThan(800);
    expect(state.done, 'the adapter was still at work').toBe(false);
    await wait;
  });
});

describe('setImmediate', () => {
  const isImmediate = (handle: unknown) => (handle as object).constructor.name === 'Immediate';

  test('setImmediate delays no bound function and no promise, passes arguments on and can be cleared', async () => {
    const calls: unknown[] = [];
    const target = {
      note(...values: unknown[]) {
        calls.push(this === target, ...values);
      },
    };
    expect(isImmediate(setImmediate(target.note.bind(target), 1, 2))).toBe(true);
    clearImmediate(setImmediate(() => calls.push('cleared')));
    await new Promise((resolve) => {
      expect(isImmediate(setImmediate(resolve))).toBe(true);
    });
    expect(calls).toEqual([true, 1, 2]);
  });

  test('setImmediate is still what util.promisify makes a promise of', async () => {
    expect(await promisify(setImmediate)('value')).toBe('value');
  });

  test('setImmediate sends native callbacks, such as those of Dawn, through a timer', async () => {
    // The nearest thing to an add-on's function; calling it does nothing.
    const handle = setImmediate(Object);
    expect(isImmediate(handle)).toBe(false);
    clearTimeout(handle as unknown as NodeJS.Timeout);
  });
});
