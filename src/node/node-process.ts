import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';

/** Arguments of `spawn`. */
export interface NodeProcess {
  readonly command: string;
  readonly args: readonly string[];
  /** Additions to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** The part of the processor that a process with a software adapter may use. */
export interface ProcessorShare {
  /** Threads of the driver. */
  readonly threads: number;
  /** Cores that it is pinned to, where the system supports that; empty: any core. */
  readonly cores: readonly number[];
}

/** How to start Node with `args`; without `share`, without limits. */
export function nodeProcess(args: readonly string[], share?: ProcessorShare): NodeProcess {
  const env: Record<string, string> = share === undefined ? {} : { LP_NUM_THREADS: String(share.threads) };
  const taskset = share === undefined || share.cores.length === 0 ? undefined : pathOfTaskset();
  if (share === undefined || taskset === undefined) return { command: process.execPath, args, env };
  return { command: taskset, args: ['-c', share.cores.join(','), process.execPath, ...args], env };
}

/** The cores that this process may run on. Their number is Node's available parallelism. */
export function allowedCores(): readonly number[] {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
    return list.split(',').flatMap((range) => {
      const [first, last = first] = range.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  } catch {
    // Only Linux lists the allowed cores.
    return Array.from({ length: availableParallelism() }, (_, i) => i);
  }
}

/** The path of taskset; undefined where the system lacks it. Some Linux systems have it. */
function pathOfTaskset(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, 'taskset')).find((path) => existsSync(path));
}

/** The last line of a process's standard error, without a driver's messages at its start. */
export function lastLine(text: string): string | undefined {
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('Warning: maxDynamic'));
  return lines.at(-1)?.trim();
}
