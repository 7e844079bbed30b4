import { create, globals } from 'webgpu';
import { withoutDriverOutput } from './driver-output.js';

/**
 * WebGPU for Node: Dawn through the npm package `webgpu`.
 *
 * While a map or a fence is pending, Dawn's binding polls: it passes a native callback to `setImmediate` again and
 * again. That keeps a core busy, which a software driver needs (matrix products run half as fast). The binding looks up
 * the global at each call, so the wrapper below can delay its callbacks, and only those, by a timer. The delay is a
 * millisecond at first and grows with the length of a wait, because every poll takes a core from the driver for a
 * moment.
 */
const POLL_MS = 1;
const SLOWEST_POLL_MS = 8;

/** The delay of a poll is at most this fraction of the wait so far. */
const LATE = 1 / 200;

let waitBegan = 0;

/** Milliseconds until the next poll. */
function pollDelay(): number {
  return Math.min(SLOWEST_POLL_MS, Math.max(POLL_MS, LATE * (performance.now() - waitBegan)));
}

/** Records when any wait begins. */
function watchWaits(): void {
  const noted = <A extends unknown[], R>(wait: (...args: A) => R) =>
    function (this: unknown, ...args: A): R {
      waitBegan = performance.now();
      return wait.apply(this, args);
    };
  const { prototype: buffer } = globalThis.GPUBuffer;
  buffer.mapAsync = noted(buffer.mapAsync);
  const { prototype: queue } = globalThis.GPUQueue;
  queue.onSubmittedWorkDone = noted(queue.onSubmittedWorkDone);
}

/**
 * Functions of native add-ons have a `prototype`. Bound functions and promises' resolving functions, which print as
 * native code too, have none.
 */
function isNativeCallback(callback: unknown): boolean {
  return (
    typeof callback === 'function' &&
    Object.hasOwn(callback, 'prototype') &&
    /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(callback))
  );
}

function slowDownPolling(): void {
  const original = globalThis.setImmediate;
  const wrapper = (callback: (...args: unknown[]) => void, ...args: unknown[]) =>
    isNativeCallback(callback) ? setTimeout(callback, pollDelay(), ...args) : original(callback, ...args);
  // util.promisify(setImmediate) needs the original's symbols.
  for (const symbol of Object.getOwnPropertySymbols(original))
    Object.defineProperty(wrapper, symbol, Object.getOwnPropertyDescriptor(original, symbol) as PropertyDescriptor);
  globalThis.setImmediate = wrapper as unknown as typeof setImmediate;
}

/** By requested adapter name. */
const instances = new Map<string | undefined, GPU>();

/**
 * A Dawn instance. `adapterName` selects the first adapter whose name contains it. Instances are kept for the life of
 * the process: if one is collected while a device lives, the process crashes. The first call adds WebGPU's names to the
 * process's globals.
 */
export function openDawn(adapterName?: string): GPU {
  let instance = instances.get(adapterName);
  if (instance === undefined) {
    if (instances.size === 0) {
      Object.assign(globalThis, globals);
      watchWaits();
      slowDownPolling();
    }
    const options = [
      // By default Dawn rounds timestamps to 65 microseconds, which is longer than many kernels take.
      'disable-dawn-features=timestamp_quantization',
      // By default Dawn hides float16 on NVIDIA's Vulkan driver.
      'enable-dawn-features=vulkan_enable_f16_on_nvidia',
    ];
    if (adapterName !== undefined) options.push(`adapter=${adapterName}`);
    instance = create(options);
    const look = instance.requestAdapter.bind(instance);
    // Dawn looks for adapters within the call.
    instance.requestAdapter = (wanted) => withoutDriverOutput(() => look(wanted));
    instances.set(adapterName, instance);
  }
  return instance;
}
