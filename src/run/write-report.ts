import { basename, join } from 'node:path';
import type { RunDirectory } from '../checkpoint/run.js';
import { readMetrics } from '../report/metrics.js';
import type { RunConfig } from '../train/run-config.js';
import { settingsOf } from './run-facts.js';

/** Writes report.html from the events that the run has so far. */
export async function writeReport(run: RunDirectory, config: RunConfig): Promise<void> {
  const { htmlReport } = await import('../report/report.js');
  await run.writeReport(
    htmlReport(readMetrics(join(run.root, 'metrics.jsonl')), {
      name: basename(run.path),
      settings: settingsOf(config),
      totalSteps: config.totalSteps,
      tokensPerStep: config.options.batch * config.model.context,
      stepsPerEpoch: config.stepsPerEpoch,
    }),
  );
}
