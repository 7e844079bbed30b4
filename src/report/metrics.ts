import { LantrainError } from '../errors.js';
import { isSystemError, reason } from '../files.js';
import { readLines } from '../regular-file.js';
import { type MetricsEvent, parseMetrics } from './events.js';

export * from './events.js';

/** A sample of many tokens has some hundred kilobytes. */
const MOST_LINE_BYTES = 2 ** 24;

/** The events of a run's metrics.jsonl; none where there is no such file yet. Throws LT_CHECKPOINT_CORRUPT. */
export function readMetrics(path: string): MetricsEvent[] {
  try {
    return parseMetrics(readLines(path, MOST_LINE_BYTES), path);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'ENOENT') return [];
    throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} cannot be read: ${reason(error)}`, {
      cause: error,
    });
  }
}
