import { readFileSync } from 'node:fs';
import { LantrainError } from '../errors.js';
import { reason } from '../files.js';
import { type MetricsEvent, parseMetrics } from './events.js';

export * from './events.js';

/** The events of a run's metrics.jsonl; none where there is no such file yet. */
export function readMetrics(path: string): MetricsEvent[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} cannot be read: ${reason(error)}`, {
      cause: error,
    });
  }
  return parseMetrics(text, path);
}
