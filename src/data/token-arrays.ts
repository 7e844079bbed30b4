import { createHash } from 'node:crypto';
import { LantrainError } from '../errors.js';
import type { Dataset } from './dataset.js';
import { memoryTokens } from './token-file.js';

/** Token ids in a row, each below the vocabulary's size. */
export type TokenArray = Uint16Array | Uint32Array | readonly number[];

/** One array, of which a share is held out at the end, or the two parts by themselves. */
export type TokenData = TokenArray | { readonly train: TokenArray; readonly validation?: TokenArray };

/** Stands for token arrays where a path or a name stands for other data. */
export const TOKEN_ARRAYS = '(token arrays)';

/**
 * Token ids that the caller holds as a dataset; they are copied. `valRatio`: the share of one array that is held out. One
 * array has the hash of a `.bin` file of the same ids. Throws LT_DATA_TOKEN for what is no id of the vocabulary.
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

/** Ids are 16 bits wide everywhere. */
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
