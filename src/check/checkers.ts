import { checkAttention, checkDelta, checkKeyGradient, checkQueryGradient } from './attention.js';
import type { Checker } from './checking.js';
import { checkAdvance, checkApply, checkExponents } from './low-update.js';
import { checkSquares, checkUpdate } from './optimizer.js';
import {
  checkArranged,
  checkFixed,
  checkReducedFixed,
  checkReducedStore,
  checkRoundedWeights,
  checkSplit,
  checkStore,
} from './products.js';
import {
  checkColumns,
  checkEmbedding,
  checkLoss,
  checkLossSum,
  checkNorm,
  checkNormGradient,
  checkPositionGradient,
  checkTokenGradient,
} from './rows.js';

const PRODUCT = {
  store: checkStore,
  storeGelu: checkStore,
  storeDropout: checkStore,
  fixed: checkFixed,
} as const;

const ATTENTION = {
  forward: checkAttention,
  forwardDropout: checkAttention,
  backwardDelta: checkDelta,
  backwardQuery: checkQueryGradient,
  backwardQueryDropout: checkQueryGradient,
  backwardKey: checkKeyGradient,
  backwardKeyDropout: checkKeyGradient,
} as const;

/** How the kernels of portable training are held against the reference: by shader and entry. */
export const CHECKERS: Readonly<Record<string, Readonly<Record<string, Checker>>>> = {
  adamw: { update: checkUpdate },
  arrange: { space: checkArranged, transpose: checkArranged },
  attention_subgroup: ATTENTION,
  attention_tile: ATTENTION,
  columns: { bias: checkColumns, norm: checkColumns },
  cross_entropy: { loss: checkLoss, gradient: checkLoss, sumLosses: checkLossSum },
  embedding: {
    forward: checkEmbedding,
    tokenGradient: checkTokenGradient,
    positionGradient: checkPositionGradient,
  },
  gradient_norm: { chunkSquares: checkSquares },
  grid: { exponents: checkExponents },
  layernorm: {
    forward: checkNorm,
    backward: checkNormGradient,
    backwardDropout: checkNormGradient,
    backwardRounded: checkNormGradient,
  },
  matmul_plain: PRODUCT,
  matmul_reduce: {
    store: checkReducedStore,
    storeGelu: checkReducedStore,
    storeDropout: checkReducedStore,
    fixed: checkReducedFixed,
  },
  matmul_subgroup: PRODUCT,
  matmul_subgroup_tall: PRODUCT,
  matmul_tile: { ...PRODUCT, splitK: checkSplit },
  round_weights: { convert: checkRoundedWeights },
  unpack_low: { apply: checkApply, advance: checkAdvance },
};
