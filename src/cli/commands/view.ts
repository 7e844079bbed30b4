import type { Command } from 'commander';
import { port } from '../numbers.js';
import { outputIsOptional, printLine } from '../output.js';

/** Adds `lantrain view`. */
export function addView(program: Command, finish: (code: number) => void): void {
  program
    .command('view')
    .description('serve the page of a run that lies on the disk, for this machine')
    .argument('<dir>', 'the run directory')
    .option('--port <n>', 'the port; 0 takes a free one', port, 0)
    .action(async (dir: string, options: { readonly port: number }) => finish(await view(dir, options.port)));
}

async function view(run: string, port: number): Promise<number> {
  const { serveRun } = await import('../../../cluster/serve-run.js');
  const { address, close } = await serveRun({ run, port });
  // The page is the purpose of the command: the terminal may be closed once its address is copied.
  outputIsOptional(() => {});
  const stopped = new Promise<void>((stop) => process.once('SIGINT', stop).once('SIGTERM', stop));
  printLine(`view     ${address}`);
  printLine('Ctrl-C ends it');
  await stopped;
  await close();
  return 0;
}
