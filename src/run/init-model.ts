import { existsSync } from 'node:fs';
import { checkFinite, openModel } from '../checkpoint/huggingface.js';
import { LantrainError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';

/**
 * The shape of the model that a run is to begin with, all of whose weights are numbers. Says what of its files is left
 * out. Throws as `openModel` and `checkFinite` do.
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
