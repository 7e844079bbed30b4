import { insecure } from '../../src/watch/page/secure-context.js';
import type { TabState } from './state.js';

/** What the browser reports about itself. */
export interface Surroundings {
  readonly isSecureContext: boolean;
  readonly hasWebGpu: boolean;
  /** The page's host. */
  readonly host: string;
}

/** Why this page cannot compute at all, one paragraph a string; empty if it can try. */
export function obstacles({ isSecureContext, hasWebGpu, host }: Surroundings): readonly string[] {
  if (!isSecureContext) return insecure(host);
  if (!hasWebGpu)
    return [
      'This browser has no WebGPU, or it is switched off. Chrome and Edge have it from version 113 on (on Android from 121), Safari from 26, Firefox on Windows from 141. On Linux, Chrome may need --enable-unsafe-webgpu or the setting chrome://flags/#enable-unsafe-webgpu.',
      'A machine that has lantrain can also join without a browser, by its command worker as the coordinator prints it.',
    ];
  return [];
}

/** The state in a few words. */
export function describePhase({ phase, compiled, step, worker }: TabState): string {
  switch (phase) {
    case 'starting':
      return 'Looking for a GPU';
    case 'connecting':
      return 'Connecting to the coordinator';
    case 'preparing':
      if (compiled === undefined || compiled.done === compiled.total) return 'Getting ready for the run';
      return `Compiling kernels, ${compiled.done} of ${compiled.total}`;
    case 'working':
      return step === undefined ? 'Waiting for work' : `Computing as worker ${worker ?? ''}, step ${step}`;
    case 'lost':
      return 'Not connected; trying again';
    case 'left':
      return 'This device has left the run';
    case 'done':
      return 'The run is done';
    case 'failed':
      return 'This device cannot take part';
  }
}

/** A problem with advice in the page's terms rather than the command line's. */
export function explain({ code, message }: { readonly code: string; readonly message: string }): string {
  return `${message}. ${ADVICE[code] ?? ''}`.replace(/([.!?])\./, '$1').trim();
}

const ADVICE: Readonly<Record<string, string>> = {
  LT_GPU_NONE:
    'The browser knows WebGPU but offers no adapter: its driver may be too old or blocked; chrome://gpu or about:support says why.',
  LT_GPU_MEMORY: 'Close other tabs and programs that use the GPU, or join with a device that has more memory.',
  LT_GPU_LOST:
    'The GPU was reset or taken away. Join again; if it happens again, this device is too small for the run.',
  LT_GPU_SHADER: "This browser's WebGPU cannot compile the run's kernels: update it, or use another one.",
  LT_CLUSTER_BIT_CLASS:
    'The run takes only devices that compute the same bits as its coordinator: it was started with --exact.',
  LT_CLUSTER_TOKEN: 'The link is of another run, or not whole: open the one that the coordinator prints now.',
  LT_CLUSTER_URL: 'Open the whole link that the coordinator prints.',
  LT_CLUSTER_VERSION: 'The page is of another version than the coordinator: reload it.',
};

/** A name that identifies this device in the coordinator's list. `random`: in [0, 1). */
export function deviceName(userAgent: string, random: number): string {
  const find = (table: readonly (readonly [RegExp, string])[]) =>
    table.find(([pattern]) => pattern.test(userAgent))?.[1];
  const browser = find(BROWSERS) ?? 'Browser';
  const system = find(SYSTEMS);
  const mark = Math.floor(random * 36 ** 3)
    .toString(36)
    .padStart(3, '0');
  return `${browser}${system ? ` on ${system}` : ''} ${mark}`;
}

/** The order matters: a browser's user agent also names browsers below it. */
const BROWSERS = [
  [/\bEdgA?\//, 'Edge'],
  [/\bFirefox\/|\bFxiOS\//, 'Firefox'],
  [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/Chrome\/|\bCriOS\//, 'Chrome'],
  [/\bSafari\//, 'Safari'],
] as const;
const SYSTEMS = [
  [/\bAndroid\b/, 'Android'],
  [/\biPhone\b/, 'iPhone'],
  [/\biPad\b/, 'iPad'],
  [/\bMac OS X\b/, 'macOS'],
  [/\bWindows\b/, 'Windows'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bLinux\b/, 'Linux'],
] as const;
