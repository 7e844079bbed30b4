import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';

/** How to start a process: what `spawn` takes. */
export interface NodeProcess {
  readonly command: string;
  readonly args: readonly string[];
  /** To add to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** What a process of a software adapter may take of the processor. */
export interface ProcessorShare {
  /** Of the driver. */
  readonly threads: number;
  /** The cores that it is kept on, where the system can do that; none: wherever. */
  readonly cores: readonly number[];
}

/** How to start Node with `args`; without a share it takes what it wants. */
export function nodeProcess(args: readonly string[], share?: ProcessorShare): NodeProcess {
  const env: Record<string, string> = share === undefined ? {} : { LP_NUM_THREADS: String(share.threads) };
  const taskset = share === undefined || share.cores.length === 0 ? undefined : pathOfTaskset();
  if (share === undefined || taskset === undefined) return { command: process.execPath, args, env };
  return { command: taskset, args: ['-c', share.cores.join(','), process.execPath, ...args], env };
}

/** The cores that this process may run on; their count is what Node calls the available parallelism. */
export function allowedCores(): readonly number[] {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
    return list.split(',').flatMap((range) => {
      const [first, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  } catch {
    // Only Linux tells.
    return Array.from({ length: availableParallelism() }, (_, i) => i);
  }
}

/** Only Linux has it, and not every Linux. */
function pathOfTaskset(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, 'taskset')).find((path) => existsSync(path));
}

/** The last line of what a process said on standard error, without what a driver says at its start. */
export function lastLine(text: string): string | undefined {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('Warning: maxDynamic'));
  return lines.at(-1)?.trim();
}
