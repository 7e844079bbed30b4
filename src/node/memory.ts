import { readFileSync } from 'node:fs';
import { freemem } from 'node:os';
import type { AdapterDescription } from '../gpu/device.js';

/**
 * Bytes that a software adapter can still take, which is free main memory: it lets any buffer be created, and the
 * system later ends the process. Undefined for a real GPU, which refuses what it cannot hold.
 */
export function availableMemory(adapter: AdapterDescription): number | undefined {
  return adapter.software ? hostMemory() : undefined;
}

/** Bytes of main memory that are available without swapping. */
export function hostMemory(): number {
  try {
    const match = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'));
    if (match) return Number(match[1]) * 1024;
  } catch {
    // Not on Linux. The free memory below is a lower bound.
  }
  return freemem();
}
