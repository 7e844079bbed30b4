import { LantrainError } from '../errors.js';
import { isSystemError, reason } from '../files/files.js';
import { readLines } from '../files/regular-file.js';
import { type MetricsEvent, parseMetrics } from './events.js';

export * from './events.js';

/** A sample of many tokens has some hundred kilobytes. */
const MOST_LINE_BYTES = 2 ** 24;

/** The lines of a run's metrics.jsonl, read as they are asked for. Throws what the system says. */
export function readMetricsLines(path: string): Iterable<string> {
  return readLines(path, MOST_LINE_BYTES);
}

/** The events of a run's metrics.jsonl; none where there is no such file yet. Throws LT_CHECKPOINT_CORRUPT. */
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
