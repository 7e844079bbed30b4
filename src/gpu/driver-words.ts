import type { LantrainError } from '../errors.js';
import { oneLine } from '../util/one-line.js';

/** What to do about a failure whose cause a driver told. */
const ADVICE: Readonly<Record<string, string>> = {
  LT_GPU_NONE: '',
  LT_GPU_ERROR: ", which none should: update the GPU's driver",
  LT_GPU_LOST: ': its driver was reset, or ran out of memory or time',
  LT_GPU_MEMORY: '',
};

/**
 * What a failure says, in one line and without the words of drivers: those mean something to the authors of the
 * kernels, not to users. `more` says where they can be read.
 */
export function withoutDriversWords(error: LantrainError, more = ''): string {
  const { code, message } = error;
  if (code === 'LT_GPU_SHADER') {
    const [shader] = message.split(/[\s,]/, 1);
    return `the kernel ${shader} does not compile on this adapter: update the GPU's driver${more}`;
  }
  let said = oneLine(message);
  if (!(code in ADVICE)) return said;
  for (let { cause } = error; cause instanceof Error; { cause } = cause) {
    const words = `: ${oneLine(cause.message)}`;
    if (said.includes(words)) said = said.replace(words, () => ADVICE[code] + more);
  }
  return said;
}
