import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import type { AdapterDescription } from '../gpu/device.js';

/**
 * Bytes that a software adapter can still take: the system's own memory, as it lets any buffer be created and ends the
 * process later. A real GPU refuses what it cannot hold, so nothing is known beforehand, and nothing needs to be.
 */
export function availableMemory(adapter: AdapterDescription): number | undefined {
  return adapter.software ? hostMemory() : undefined;
}

/** Bytes of main memory that this machine can still give without swapping. */
export function hostMemory(): number {
  try {
    const match = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    if (match) return Number(match[1]) * 1024;
  } catch {
    // Not Linux: the free memory below is a lower bound.
  }
  return freemem();
}
