import { createHash } from 'node:crypto';
import { LantrainError } from '../errors.js';
import type { Dataset } from './dataset.js';
import { memoryTokens } from './token-file.js';

/** Token ids in order, each below the vocabulary's size and below 65,536. */
export type TokenArray = Uint16Array | Uint32Array | readonly number[];

/** One array, whose end is held out for validation (`valRatio`), or both parts separately. */
export type TokenData = TokenArray | { readonly train: TokenArray; readonly validation?: TokenArray };

/** The value of the option `data` in config.json for token arrays. */
export const TOKEN_ARRAYS = '(token arrays)';

/**
 * A dataset of the caller's token ids, which are copied. `valRatio`: the fraction of one array that is held out. One
 * array has the hash of a `.bin` file of the same ids. Throws LT_DATA_TOKEN for an id outside the vocabulary.
 */
export function tokenArrays(data: TokenData, vocabSize: number, valRatio: number): Dataset {
  const hash = createHash('sha256');
  let training: Uint16Array;
  let validation: Uint16Array;
  if ('train' in data) {
    training = idsOf(data.train, vocabSize, 'train');
    validation = idsOf(data.validation ?? [], vocabSize, 'validation');
    hash.update(`${training.length} ${validation.length} `).update(training).update(validation);
  } else {
    const ids = idsOf(data, vocabSize, 'data');
    const split = Math.floor((1 - valRatio) * ids.length);
    [training, validation] = [ids.subarray(0, split), ids.subarray(split)];
    hash.update(ids);
  }
  const count = (ids: Uint16Array) => ids.length.toLocaleString('en-US');
  return {
    train: memoryTokens(training),
    validation: memoryTokens(validation),
    hash: hash.digest('hex'),
    description: `token arrays: ${count(training)} training and ${count(validation)} validation tokens`,
    tokens: training.length + validation.length,
    close() {},
  };
}

/** Ids have 16 bits everywhere. */
function idsOf(array: TokenArray, vocabSize: number, name: string): Uint16Array {
  const most = Math.min(vocabSize, 2 ** 16);
  for (let i = 0; i < array.length; i++) {
    const id = array[i];
    if (Number.isInteger(id) && id >= 0 && id < most) continue;
    throw new LantrainError(
      'LT_DATA_TOKEN',
      `${name}[${i}] is ${id}, but ids are whole numbers from 0 to ${most - 1}: use the tokenizer that the model was made for, or other data`,
    );
  }
  return Uint16Array.from(array);
}
