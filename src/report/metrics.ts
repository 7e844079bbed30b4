import { LantrainError } from '../errors.js';
import { isSystemError, reason } from '../files/files.js';
import { readLines } from '../files/regular-file.js';
import { type MetricsEvent, parseMetrics } from './events.js';

export * from './events.js';

/** A long sample has some hundred kilobytes. */
const MOST_LINE_BYTES = 2 ** 24;

/** The lines of a run's metrics.jsonl, read one by one. Throws the system's error. */
export function readMetricsLines(path: string): Iterable<string> {
  return readLines(path, MOST_LINE_BYTES);
}

/** The events of a run's metrics.jsonl; empty where the file does not exist. Throws LT_CHECKPOINT_CORRUPT. */
export function readMetrics(path: string): MetricsEvent[] {
  try {
    return parseMetrics(readMetricsLines(path), path);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'ENOENT') return [];
    throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} cannot be read: ${reason(error)}`, {
      cause: error,
    });
  }
}
