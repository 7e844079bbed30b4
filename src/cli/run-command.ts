import { LantrainError } from '../errors.js';
import type { RunHooks, RunResult } from '../run/events.js';
import { remarkOf } from './ending.js';
import { outputIsOptional, outputLost, remarkLine } from './output.js';
import { RunPrinter } from './run-printer.js';
import { StopSignals } from './stop-signals.js';

/**
 * A run as a command: prints what it tells, and lets signals end it. `verb` is the command that goes on with it. Returns the
 * exit code: 0 done, 130 stopped by Ctrl-C with a checkpoint, or before the first step. Throws LT_CLUSTER_INEXACT for a run
 * that is done and has used what is found wrong.
 */
export async function runCommand(
  verb: string,
  json: boolean,
  start: (hooks: RunHooks) => Promise<RunResult>,
): Promise<number> {
  const printer = new RunPrinter(verb, json);
  // What is lost from here on is told once there are metrics.
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
