import { getSystemErrorMap } from 'node:util';
import { LantrainError } from '../errors.js';

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error;
}

/** LT_SYSTEM for an error of the operating system that has no other code; any other error as it is. */
export function systemFailure(error: unknown): unknown {
  if (!isSystemError(error)) return error;
  const where = error.path === undefined ? '' : ` of ${error.path}`;
  return new LantrainError('LT_SYSTEM', `the system refuses ${error.syscall}${where}: ${reason(error)}`, {
    cause: error,
  });
}

/** The words of the operating system and the code, without the call and the path that Node adds. */
export function reason(error: unknown): string {
  if (error instanceof LantrainError) return error.message;
  const { code, errno, message } = error as NodeJS.ErrnoException;
  if (!code) return String(message ?? error);
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  const text = words ?? message?.replace(/^[A-Z0-9]+: /, '').replace(/, [a-z_]+( '.*)?$/, '');
  const why = code === 'ENOENT' && isCurrentFolderGone() ? ', as the current folder was removed' : '';
  return text ? `${text} (${code})${why}` : code;
}

function isCurrentFolderGone(): boolean {
  try {
    process.cwd();
    return false;
  } catch {
    return true;
  }
}
