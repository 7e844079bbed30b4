import type { LantrainError } from '../errors.js';
import { oneLine } from '../util/one-line.js';

/** What takes the place of a driver's words, by the error's code. */
const ADVICE: Readonly<Record<string, string>> = {
  LT_GPU_NONE: '',
  LT_GPU_ERROR: ", which none should: update the GPU's driver",
  LT_GPU_LOST: ': its driver was reset, or ran out of memory or time',
  LT_GPU_MEMORY: '',
};

/**
 * The message of a failure in one line, without the words of drivers: those help authors of kernels, not users. `more`
 * says where to read them.
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
