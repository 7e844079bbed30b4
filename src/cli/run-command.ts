import { LantrainError } from '../errors.js';
import type { RunHooks, RunResult } from '../run/events.js';
import { remarkOf } from './ending.js';
import { outputIsOptional, outputLost, remarkLine } from './output.js';
import { RunPrinter } from './run-printer.js';
import { StopSignals } from './stop-signals.js';

/**
 * Runs a training command: prints the run's events, and lets signals stop it. `verb`: the command that resumes the run.
 * Returns the exit code: 0 where the run is done, 130 where it was stopped. Throws LT_CLUSTER_INEXACT where the run is
 * done but has used a wrong result.
 */
export async function runCommand(
  verb: string,
  json: boolean,
  start: (hooks: RunHooks) => Promise<RunResult>,
): Promise<number> {
  const printer = new RunPrinter(verb, json);
  // A stream that is lost from here on is reported once there are metrics.
  outputIsOptional(() => {});
  const stop = new StopSignals((standing) => {
    printer.stop();
    remarkLine(`stopped at once; ${standing}`);
    process.exit(130);
  });
  try {
    const result = await start({
      ...stop.signals,
      onEvent: (event) => {
        if (event.event === 'stopping') stop.stopping();
        printer.print(event);
      },
      onBegin: (run) => {
        stop.begin(run);
        outputIsOptional((stream, why) => {
          const text = outputLost(stream, why);
          if (stream === 'stdout') remarkLine(text);
          run.outputLost(text);
        });
      },
    });
    if (!result.complete) return 130;
    if (result.inexact === undefined) return 0;
    const { path, inexact } = result;
    throw new LantrainError('LT_CLUSTER_INEXACT', `${path} is done, but ${remarkOf(path, inexact, verb)}`);
  } catch (error) {
    printer.stop();
    if (!(error instanceof LantrainError && error.code === 'LT_RUN_STOPPED')) throw error;
    process.stderr.write('stopped before the first step\n');
    return 130;
  } finally {
    stop.release();
  }
}
