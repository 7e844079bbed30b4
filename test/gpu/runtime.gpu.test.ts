import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LantrainError } from '../../src/errors.js';
import { Gpu, READ_CHUNK_BYTES } from '../../src/gpu/device.js';
import { composeShader, KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList, linearGroups } from '../../src/gpu/list.js';
import { slice } from '../../src/gpu/view.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { GpuHarness } from './harness.js';

const COUNT_GROUPS = `
override COUNT: u32;
@group(0) @binding(0) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(1)
fn mark(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = group.x + group.y * groups.x;
  if (at < COUNT) { out[at] += at + 1u; }
}

@compute @workgroup_size(1)
fn idle() { out[0] += 1u; }

@compute @workgroup_size(1)
fn busy() {
  var x = out[0];
  for (var i = 0u; i < 20000000u; i++) { x = (x * 1664525u + 1013904223u) ^ (x >> 7u); }
  out[0] = x;
}`;

let harness: GpuHarness;
let kernels: KernelCache;
beforeAll(async () => {
  harness = await GpuHarness.open();
  kernels = new KernelCache(harness.gpu, { probe: COUNT_GROUPS });
});
afterAll(() => harness.gpu.device.destroy());

/** The error that a promise was rejected with, which must be a LantrainError. */
async function refusal(promise: Promise<unknown>): Promise<LantrainError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(LantrainError);
  return error as LantrainError;
}

/** Runs `work` on a device of its own, which it may break. */
async function withGpu(work: (gpu: Gpu) => Promise<void>, wrap = (gpu: GPU) => gpu): Promise<void> {
  const gpu = await Gpu.open(wrap(openDawn()));
  try {
    await work(gpu);
  } finally {
    gpu.device.destroy();
  }
}

/** An object of Dawn with some members replaced. */
function replaced<T extends object>(target: T, members: Record<string, unknown>): T {
  return new Proxy(target, {
    get(_, name) {
      if (Object.hasOwn(members, name)) return members[name as string];
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set: (_, name, value) => Reflect.set(target, name, value, target),
  });
}

/** Dawn with a device whose members `device` replaces. */
function dawnWith(device: (real: GPUDevice) => Record<string, unknown>): (gpu: GPU) => GPU {
  return (gpu) =>
    replaced(gpu, {
      requestAdapter: async (options: GPURequestAdapterOptions) => {
        const adapter = (await gpu.requestAdapter(options)) as GPUAdapter;
        return replaced(adapter, {
          requestDevice: async (descriptor: GPUDeviceDescriptor) => {
            const real = await adapter.requestDevice(descriptor);
            return replaced(real, device(real));
          },
        });
      },
    });
}

describe('buffers', () => {
  test('buffers start as zeros, and views read and write their own part', async () => {
    const view = await harness.gpu.buffer('test', 200);
    harness.gpu.write(slice(view, 64, 3), new Uint32Array([1, 2, 3]));
    const words = await harness.words(view);
    expect([...words.subarray(63, 68)]).toEqual([0, 1, 2, 3, 0]);
    expect([...(await harness.words(slice(view, 64, 2)))]).toEqual([1, 2]);
    expect(() => slice(view, 250, 7)).toThrow(RangeError);
  });

  test('buffers longer than the host reads at once arrive whole', async () => {
    const count = (2.5 * READ_CHUNK_BYTES) / 4;
    const words = Uint32Array.from({ length: count }, (_, i) => i);
    const view = await harness.gpu.buffer('long', count + 64);
    harness.gpu.write(slice(view, 64, count), words);
    const read = await harness.words(slice(view, 64, count));
    expect(Buffer.compare(Buffer.from(read.buffer), Buffer.from(words.buffer))).toBe(0);
    harness.gpu.release(view);
  });

  test('buffers count towards the memory in use, and the peak stays', async () => {
    const before = harness.gpu.memory.allocatedBytes;
    const view = await harness.gpu.buffer('test', 2 ** 20);
    expect(harness.gpu.memory.allocatedBytes).toBe(before + 2 ** 22);
    harness.gpu.release(view);
    expect(harness.gpu.memory.allocatedBytes).toBe(before);
    expect(harness.gpu.memory.peakBytes).toBeGreaterThanOrEqual(before + 2 ** 22);
  });

  test('buffers larger than the adapter allows are LT_GPU_MEMORY, with name, size and limit', async () => {
    const { maxBufferSize } = harness.gpu.limits;
    const values = Math.ceil(maxBufferSize / 256) * 64 + 64;
    const error = await refusal(harness.gpu.buffer('giant', values));
    expect(error.code).toBe('LT_GPU_MEMORY');
    expect(error.message).toContain(`giant of ${4 * values} bytes`);
    expect(error.message).toContain(`(${maxBufferSize} bytes)`);
    await harness.gpu.read(await harness.gpu.buffer('small', 1)); // nothing is left behind
  });

  test('buffers that the adapter has no memory for are LT_GPU_MEMORY, and do not count', async () => {
    let memoryIsFull = false;
    const wrap = dawnWith((real) => ({
      popErrorScope: async () => {
        const error = await real.popErrorScope();
        return memoryIsFull ? { message: 'out of memory' } : error;
      },
    }));
    await withGpu(async (gpu) => {
      await gpu.buffer('first', 64);
      memoryIsFull = true;
      const error = await refusal(gpu.buffer('second', 64));
      expect(error.code).toBe('LT_GPU_MEMORY');
      expect(error.message).toContain('no memory for second (256 bytes, 256 bytes in use already)');
      expect(gpu.memory.allocatedBytes).toBe(256);
    }, wrap);
  });
});

describe('errors that WebGPU reports on the side', () => {
  test('errors that WebGPU reports on the side are thrown as LT_GPU_ERROR by the next read, and ever after', async () => {
    await withGpu(async (gpu) => {
      const view = await gpu.buffer('test', 64);
      gpu.device.queue.writeBuffer(view.buffer, 1024, new Uint32Array(64));
      const error = await refusal(gpu.read(view));
      expect(error.code).toBe('LT_GPU_ERROR');
      expect(error.message).toMatch(/^WebGPU refused an operation: .*[Ww]rite/);
      expect(error.message).not.toContain('\n');
      expect(await refusal(gpu.done())).toBe(error);
      expect(() => gpu.check()).toThrow(error);
    });
  });

  test('errors that WebGPU reports on the side are thrown by a wait, too, after an invalid submit', async () => {
    await withGpu(async (gpu) => {
      const small = await gpu.buffer('small', 64);
      const encoder = gpu.device.createCommandEncoder();
      encoder.copyBufferToBuffer(small.buffer, 0, small.buffer, 128, 1024);
      gpu.device.queue.submit([encoder.finish()]);
      expect((await refusal(gpu.done())).code).toBe('LT_GPU_ERROR');
    });
  });

  test('errors are LT_GPU_MEMORY where memory ran out', async () => {
    class GPUOutOfMemoryError {
      readonly message = 'while working';
    }
    await withGpu(async (gpu) => {
      const event = { error: new GPUOutOfMemoryError() } as unknown as GPUUncapturedErrorEvent;
      gpu.device.onuncapturederror?.call(gpu.device, event);
      expect((await refusal(gpu.done())).code).toBe('LT_GPU_MEMORY');
    });
  });

  test('errors are LT_GPU_LOST when the device is lost', async () => {
    const lost = Promise.resolve({ reason: 'unknown', message: 'the driver crashed' });
    await withGpu(
      async (gpu) => {
        const error = await refusal(gpu.done());
        expect(error.code).toBe('LT_GPU_LOST');
        expect(error.message).toContain('the driver crashed');
      },
      dawnWith(() => ({ lost })),
    );
  });

  test('errors are LT_GPU_LOST when the device was destroyed under the work', async () => {
    const gpu = await Gpu.open(openDawn());
    const view = await gpu.buffer('test', 64);
    gpu.device.destroy();
    expect((await refusal(gpu.read(view))).code).toBe('LT_GPU_LOST');
  });
});

describe('kernels', () => {
  test('kernels that do not compile are LT_GPU_SHADER, with the numbered lines around the error', async () => {
    const broken = ['@group(0) @binding(0) var<storage, read_write> out: array<f32>;', 'fn helper() {}', ''];
    const text = [...broken, '@compute @workgroup_size(1)', 'fn main() {', '  out[0] = nonsense;', '}'].join('\n');
    const cache = new KernelCache(harness.gpu, { broken: text });
    const error = await refusal(cache.get({ shader: 'broken', entry: 'main', constants: {} }, ['out']));
    expect(error.code).toBe('LT_GPU_SHADER');
    expect(error.message).toContain('broken.wgsl does not compile');
    expect(error.message).toContain('nonsense');
    // The line that the error names is the one shown with that number.
    const [, line] = /line (\d+):\d+/.exec(error.message) ?? [];
    expect(error.message).toContain(`${line} |   out[0] = nonsense;`);
    await harness.gpu.done(); // it was thrown, so it is not thrown again
  });

  test('kernels without the entry point, the variable or the file asked for are LT_GPU_SHADER', async () => {
    const get = (shader: string, entry: string, variable: string) =>
      refusal(kernels.get({ shader, entry, constants: {} }, [variable]));
    const [entry, variable, file] = [
      await get('probe', 'missing', 'out'),
      await get('probe', 'idle', 'missing'),
      await get('missing', 'idle', 'out'),
    ];
    for (const error of [entry, variable, file]) expect(error.code).toBe('LT_GPU_SHADER');
    expect(entry.message).toContain('probe.wgsl, entry missing');
    expect(variable.message).toContain('probe.wgsl declares no variable missing');
    expect(file.message).toContain('there is no shader missing.wgsl');
  });

  test('kernels are built once for the same constants and variables', async () => {
    const cache = new KernelCache(harness.gpu, { probe: COUNT_GROUPS });
    const get = (COUNT: number) => cache.get({ shader: 'probe', entry: 'mark', constants: { COUNT } }, ['out']);
    expect(await get(1)).toBe(await get(1));
    expect(await get(2)).not.toBe(await get(1));
    expect(cache.pipelineCount).toBe(2);
  });
});

describe('composed shaders', () => {
  test('composed shaders hold each import once, before its user, and directives first', () => {
    const texts = {
      top: 'enable subgroups;\n//! import left\n//! import right\nfn top() {}',
      left: '//! import base\nfn left() {}',
      right: '//! import base\nenable f16;\nenable subgroups;\nfn right() {}',
      base: 'fn base() {}',
    };
    const lines = composeShader(texts, 'top')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('//'));
    const functions = ['base', 'left', 'right', 'top'].map((name) => `fn ${name}() {}`);
    expect(lines.slice(2)).toEqual(functions);
    expect(lines.slice(0, 2).sort()).toEqual(['enable f16;', 'enable subgroups;']);
  });

  test('composed shaders hold lines that are written once for each of several names', () => {
    const top = '//! each STORE: store storeGelu\nfn STORE() { STORE4(1u); restore(); }\n//! end\nfn end() {}';
    const lines = composeShader({ top }, 'top')
      .split('\n')
      .filter((line) => line !== '');
    expect(lines).toEqual([
      'fn store() { store4(1u); restore(); }',
      'fn storeGelu() { storeGelu4(1u); restore(); }',
      'fn end() {}',
    ]);
  });

  const texts = loadShaders();
  const hasEntry = (name: string) => texts[name].includes('@compute');

  test('every shader file without an entry point is imported by another', () => {
    const parts = Object.keys(texts).filter((name) => !hasEntry(name));
    const isImported = (name: string) =>
      Object.values(texts).some((text) => new RegExp(`//! import ${name}\\b`).test(text));
    expect(parts.filter((name) => !isImported(name))).toEqual([]);
  });

  const composed = Object.keys(texts)
    .filter(hasEntry)
    .flatMap((name) => [[], ['portable']].map((defines) => ({ name, defines, of: defines.join('') || 'native' })));
  test.each(composed)('$name.wgsl compiles as it stands, in $of arithmetic', async ({ name, defines }) => {
    const code = composeShader(texts, name, defines);
    if (/^enable subgroups/m.test(code) && !harness.gpu.has('subgroups')) {
      console.warn(`${name}.wgsl is not compiled: the adapter has no subgroups`);
      return;
    }
    harness.gpu.device.pushErrorScope('validation');
    const info = await harness.gpu.device.createShaderModule({ code }).getCompilationInfo();
    const error = await harness.gpu.device.popErrorScope();
    expect(info.messages.map((m) => `${m.type} line ${m.lineNum}: ${m.message}`)).toEqual([]);
    expect(error).toBeNull();
  });
});

describe('dispatch grids', () => {
  test('dispatch grids of any count are at most 65535 wide and waste less than a row', () => {
    for (const count of [1, 2, 65535, 65536, 65537, 131071, 1_000_003, 65535 ** 2 - 1, 65535 ** 2]) {
      const [x, y] = linearGroups(count);
      expect(Math.max(x, y)).toBeLessThanOrEqual(65535);
      expect(x * y - count).toBeGreaterThanOrEqual(0);
      expect(x * y - count).toBeLessThan(y);
    }
    expect(linearGroups(65535)).toEqual([65535, 1]);
  });

  test('dispatch grids past 65535 workgroups reach every one, once', async () => {
    const count = 2 * 65535 + 3;
    const out = await harness.zeros(count);
    const list = new DispatchList();
    const bindings = { out };
    list.add({ shader: 'probe', entry: 'mark', constants: { COUNT: count }, bindings, groups: linearGroups(count) });
    await list.prepare(kernels);
    list.submit(harness.gpu);
    expect((await harness.words(out)).findIndex((v, i) => v !== i + 1)).toBe(-1);
  });

  test('dispatch grids that no adapter dispatches are refused when they are added', async () => {
    const out = await harness.zeros(1);
    const add = (groups: [number, number?, number?]) => () =>
      new DispatchList().add({ shader: 'probe', entry: 'idle', constants: {}, bindings: { out }, groups });
    expect(add([65535, 65535])).not.toThrow();
    for (const groups of [[65536], [1, 65536], [0], [1.5], [Number.NaN]] as [number, number?][])
      expect(add(groups)).toThrow(RangeError);
    expect(add([65536])).toThrow('probe.idle: cannot dispatch 65536 workgroups');
  });
});

describe('dispatch lists', () => {
  const listOf = async (b: GpuHarness, entries: readonly string[]) => {
    const [list, out] = [new DispatchList(), await b.zeros(1)];
    for (const entry of entries)
      list.add({ shader: 'probe', entry, constants: {}, bindings: { out }, groups: [1], flops: 7, label: `${entry}!` });
    await list.prepare(new KernelCache(b.gpu, { probe: COUNT_GROUPS }));
    return { list, out };
  };

  test('dispatch lists replay in order as often as they are submitted', async () => {
    const { list, out } = await listOf(harness, ['idle', 'idle', 'idle']);
    for (let i = 0; i < 5; i++) list.submit(harness.gpu);
    expect([...(await harness.words(out))]).toEqual([15]);
  });

  test.for([1, 2, 5])('dispatch lists are timed by the adapter in %d runs in a row', async (runs, { skip }) => {
    if (!harness.gpu.has('timestamp-query')) return skip('this adapter has no timestamps');
    const { list, out } = await listOf(harness, ['idle', 'busy', 'idle']);
    await DispatchList.warmUp(harness.gpu, [list]);
    const start = performance.now();
    const each = await list.time(harness.gpu, runs);
    expect(each).toBeGreaterThan(5);
    expect(each * runs).toBeLessThan(performance.now() - start);
    const single = await listOf(harness, ['idle', 'idle']);
    await single.list.time(harness.gpu, runs);
    expect([...(await harness.words(single.out))]).toEqual([2 * runs]);
    expect((await harness.words(out))[0]).not.toBe(0);
  });

  test('dispatch lists warm up with each pipeline once', async () => {
    const { list, out } = await listOf(harness, ['idle', 'busy', 'idle', 'idle']);
    harness.gpu.write(out, Uint32Array.of(5));
    const progress: [number, number][] = [];
    await DispatchList.warmUp(harness.gpu, [list], (...p) => progress.push(p));
    expect(progress).toEqual([
      [1, 2],
      [2, 2],
    ]);
  });

  test.each([true, false])('dispatch lists profile every dispatch, with timestamps %s', async (timestamps) => {
    const own = timestamps ? harness : await GpuHarness.open({ withoutFeatures: ['timestamp-query'] });
    if (timestamps && !own.gpu.has('timestamp-query')) {
      console.warn('timestamps are not tested: the adapter has none');
      return;
    }
    expect(own.gpu.has('timestamp-query')).toBe(timestamps);
    const { list, out } = await listOf(own, ['idle', 'busy', 'idle']);
    await DispatchList.warmUp(own.gpu, [list]);
    const timings = await list.profile(own.gpu);
    expect(timings.map((t) => t.label)).toEqual(['idle!', 'busy!', 'idle!']);
    expect(timings.map((t) => t.flops)).toEqual([7, 7, 7]);
    const [first, busy, last] = timings.map((t) => t.milliseconds);
    expect(Math.min(first, last)).toBeGreaterThanOrEqual(0);
    expect(busy).toBeGreaterThan(5);
    expect(busy).toBeGreaterThan(Math.min(first, last));
    expect((await own.words(out))[0]).not.toBe(0);
    if (!timestamps) own.gpu.device.destroy();
  });
});
