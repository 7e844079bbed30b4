import { existsSync } from 'node:fs';
import { checkFinite, openModel } from '../checkpoint/huggingface.js';
import { LantrainError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';

/**
 * The shape of the model in the folder `dir`, after a check that all of its weights are finite. `onNote` is told which
 * tensors in the folder are left out. Throws LT_CHECKPOINT_CORRUPT where there is no such folder, and as `openModel`
 * and `checkFinite` do.
 */
export async function checkInit(dir: string, onNote?: (line: string) => void): Promise<ModelConfig> {
  if (!existsSync(dir))
    throw new LantrainError(
      'LT_CHECKPOINT_CORRUPT',
      `there is no folder ${dir}: --init takes a Hugging Face folder that lies on this machine; fetch the model first`,
    );
  const model = await openModel(dir);
  try {
    checkFinite(dir, model);
  } finally {
    model.close();
  }
  const others = model.passedOver;
  const are = others.length > 1 ? 'are' : 'is';
  if (others.length > 0) onNote?.(`init     ${dir}: ${others.join(', ')} ${are} no part of the model and left out`);
  return model.config;
}
