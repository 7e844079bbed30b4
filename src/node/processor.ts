import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { type AdapterDescription, adapterTitle } from '../gpu/device.js';

/** Vector instructions by Linux's names, the widest first. */
const INSTRUCTIONS: readonly (readonly [flag: string, name: string])[] = [
  ['avx512f', 'AVX-512'],
  ['avx2', 'AVX2'],
];

/**
 * The processor that runs the kernels of a software adapter: `AMD EPYC with AVX2`. The vector instructions are named
 * where Linux tells them, because kernels differ by a factor of two to four between them: AVX-512 has 32 vector
 * registers and masks, AVX2 half as many and no masks.
 */
export function processor(): string {
  const model = cpus()[0]?.model.trim() || 'unknown processor';
  return `${model}${vectorInstructions()}`;
}

/** The adapter for a benchmark's output: its driver, and the processor of a software adapter. */
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
