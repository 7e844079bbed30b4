import { create, globals } from 'webgpu';
import { withoutDriverOutput } from './driver-output.js';

/**
 * WebGPU for Node: Dawn through the npm package `webgpu`.
 *
 * While a map or a fence is pending, Dawn's binding polls by handing a native callback to `setImmediate` again and
 * again. That keeps a core busy, which a software driver needs for itself (matrix products run half as fast). The
 * binding looks the global up at each call, so the wrapper below sends its callbacks, and nobody else's, through a timer:
 * of a millisecond at first, of more the longer a wait has lasted, as every poll takes a core from the driver for a moment.
 */
const POLL_MS = 1;
const SLOWEST_POLL_MS = 8;

/** A wait is noticed late by this part of what it has lasted at most. */
const LATE = 1 / 200;

let waitBegan = 0;

/** Milliseconds until the next poll. */
function pollDelay(): number {
  return Math.min(SLOWEST_POLL_MS, Math.max(POLL_MS, LATE * (performance.now() - waitBegan)));
}

/** Notes when a wait begins, whoever waits for what. */
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
 * Functions of native add-ons have a prototype of their own. Bound functions and the resolving functions of promises,
 * which print as native code as well, have none.
 */
function isNativeCallback(callback: unknown): boolean {
  return (
    typeof callback === 'function' &&
    Object.hasOwn(callback, 'prototype') &&
    /\{\s*\[native code\]\s*\}\s*$/.test(Function.prototype.toString.call(callback))
  );
}

function curePolling(): void {
  const original = globalThis.setImmediate;
  const wrapper = (callback: (...args: unknown[]) => void, ...args: unknown[]) =>
    isNativeCallback(callback) ? setTimeout(callback, pollDelay(), ...args) : original(callback, ...args);
  // util.promisify(setImmediate) looks for the symbols that the original carries.
  for (const symbol of Object.getOwnPropertySymbols(original))
    Object.defineProperty(wrapper, symbol, Object.getOwnPropertyDescriptor(original, symbol) as PropertyDescriptor);
  globalThis.setImmediate = wrapper as unknown as typeof setImmediate;
}

/** By the adapter's name that was asked for. */
const instances = new Map<string | undefined, GPU>();

/**
 * A Dawn instance; `adapterName` picks the first adapter whose name contains it. Instances are held for the life of the
 * process: when one is collected while a device lives, the process dies. The first one puts WebGPU's names among the
 * process's globals.
 */
export function openDawn(adapterName?: string): GPU {
  let instance = instances.get(adapterName);
  if (instance === undefined) {
    if (instances.size === 0) {
      Object.assign(globalThis, globals);
      watchWaits();
      curePolling();
    }
    const options = [
      // Dawn rounds timestamps to 65 microseconds unless told not to, which is longer than many kernels take.
      'disable-dawn-features=timestamp_quantization',
      // Dawn hides float16 of NVIDIA's Vulkan driver unless asked.
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
