import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { type AdapterDescription, adapterTitle } from '../gpu/device.js';

/** The widest vector instructions first, by the names that Linux has for them. */
const INSTRUCTIONS: readonly (readonly [flag: string, name: string])[] = [
  ['avx512f', 'AVX-512'],
  ['avx2', 'AVX2'],
];

/**
 * What kernels run on where the adapter is software, `AMD EPYC with AVX2`. The instructions decide about a factor of two
 * to four and are told where Linux tells them: AVX-512 has 32 vector registers and masks, AVX2 half as many and none.
 */
export function processor(): string {
  const model = cpus()[0]?.model.trim() || 'unknown processor';
  return `${model}${vectorInstructions()}`;
}

/** The adapter in a line of a benchmark: its driver, and the processor of a software adapter. */
export function describeAdapter(adapter: AdapterDescription): string {
  return `${adapterTitle(adapter)}${adapter.software ? ` on ${processor()}` : ''}`;
}

function vectorInstructions(): string {
  let flags: readonly string[];
  try {
    const [, line] = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
    flags = line?.split(' ') ?? [];
  } catch {
    return '';
  }
  const found = INSTRUCTIONS.find(([flag]) => flags.includes(flag));
  return found ? ` with ${found[1]}` : '';
}
