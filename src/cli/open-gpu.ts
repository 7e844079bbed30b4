import { LantrainError } from '../errors.js';
import { Gpu } from '../gpu/device.js';

/**
 * The adapter's device. Dawn is loaded here and not before: where it has no binary for this machine, everything else can
 * still tell what is wrong. Throws LT_GPU_NONE.
 */
export async function openGpu(adapterName?: string): Promise<Gpu> {
  const { openDawn } = await import('../gpu/dawn.js').catch((cause) => {
    const [line] = String(cause?.message ?? cause).split('\n');
    throw new LantrainError('LT_GPU_NONE', `the webgpu package does not work here (${line}); run lantrain doctor`, {
      cause,
    });
  });
  return Gpu.open(openDawn(adapterName));
}
