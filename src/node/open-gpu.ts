import { LantrainError } from '../errors.js';
import { Gpu } from '../gpu/device.js';
import { pasteable } from './invocation.js';

/**
 * Opens a device on the first adapter whose name contains `adapterName`, else on the default adapter. Loads Dawn only
 * now: where it has no binary for this machine, other commands still work. Throws LT_GPU_NONE.
 */
export async function openGpu(adapterName?: string): Promise<Gpu> {
  const doctor = `${pasteable(['doctor'])} says what to do`;
  const { openDawn } = await import('./dawn.js').catch((cause) => {
    const [line] = String(cause?.message ?? cause).split('\n');
    throw new LantrainError('LT_GPU_NONE', `the webgpu package does not work here (${line}); ${doctor}`, { cause });
  });
  try {
    return await Gpu.open(openDawn(adapterName));
  } catch (error) {
    if (!(error instanceof LantrainError) || error.code !== 'LT_GPU_NONE') throw error;
    const names = adapterNames(error.cause);
    const why =
      adapterName === undefined || names.length === 0
        ? `no usable GPU adapter; ${doctor}`
        : `no GPU adapter's name contains ${JSON.stringify(adapterName)}; there are: ${names.join(', ')}`;
    throw new LantrainError('LT_GPU_NONE', why, { cause: error });
  }
}

/** The adapters in Dawn's message where none fits: ` * backend: 'vulkan', name: 'llvmpipe'`. */
export function adapterNames(cause: unknown): string[] {
  const text = cause instanceof Error ? cause.message : '';
  return [...text.matchAll(/name: '([^'\n]*)'/g)].map(([, name]) => name);
}
