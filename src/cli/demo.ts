import { demo } from '../../cluster/demo.js';
import type { DemoRequest } from '../../cluster/request.js';
import { pasteable } from '../node/invocation.js';
import { printLine } from './output.js';
import { runCommand } from './run-command.js';

/** `lantrain demo`: a coordinator in this process, workers on this machine. Returns the exit code. */
export async function demoCommand(request: DemoRequest, json: boolean): Promise<number> {
  const code = await runCommand('demo', json, (hooks) => demo(request, hooks));
  if (code === 0 && !json)
    printLine(`more     ${pasteable(['coordinator'])}: then on each other machine the line that it prints`);
  return code;
}
