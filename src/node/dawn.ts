import { create, globals } from 'webgpu';
import { isSoftware } from '../gpu/device.js';
import { withoutDriverOutput } from './driver-output.js';
import { pollDelay } from './polling.js';

/*
 * WebGPU for Node: Dawn through the npm package `webgpu`.
 *
 * While a map or a fence is pending, Dawn's binding passes a native callback to `setImmediate` for each poll. It looks up
 * the global at each call, so the wrapper below can delay its callbacks, and only those (`polling.ts`).
 */
let waitBegan = 0;
/** A software adapter was found in this process. */
let hasSoftware = false;

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
  const wrapper = (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
    const delay = isNativeCallback(callback) ? pollDelay(performance.now() - waitBegan, hasSoftware) : undefined;
    return delay === undefined ? original(callback, ...args) : setTimeout(callback, delay, ...args);
  };
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
    instance.requestAdapter = async (wanted) => {
      const adapter = await withoutDriverOutput(() => look(wanted));
      hasSoftware ||= adapter !== null && isSoftware(adapter.info);
      return adapter;
    };
    instances.set(adapterName, instance);
  }
  return instance;
}
