/**
 * An error that a user can meet, such as a wrong option or a full disk. `code` is stable: `LT_<AREA>_<WHAT>`. `message`
 * is one line that says what is wrong, where, and what to do. `cause` is the error below it, if any.
 */
export class LantrainError extends Error {
  override readonly name = 'LantrainError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }

  /** The exit code of the command line: 2 for usage errors, 1 for all others. */
  get exitCode(): 1 | 2 {
    return USAGE_CODES.has(this.code) ? 2 : 1;
  }
}

const USAGE = [
  'LT_USAGE_OPTION',
  'LT_USAGE_PRESET',
  'LT_USAGE_MODEL',
  'LT_USAGE_BATCH',
  'LT_CLUSTER_URL',
  'LT_CLUSTER_PLAIN',
] as const;

const FAILURES = [
  'LT_SYSTEM',
  'LT_GPU_NONE',
  'LT_GPU_SHADER',
  'LT_GPU_ERROR',
  'LT_GPU_MEMORY',
  'LT_GPU_LOST',
  'LT_DATA_MISSING',
  'LT_DATA_EMPTY',
  'LT_DATA_SHORT',
  'LT_DATA_TOKEN',
  'LT_DATA_DOWNLOAD',
  'LT_DATA_CORRUPT',
  'LT_RUN_EXISTS',
  'LT_RUN_FOREIGN',
  'LT_RUN_LOCKED',
  'LT_RUN_MISSING',
  'LT_RUN_MISMATCH',
  'LT_RUN_STOPPED',
  'LT_RUN_WRITE',
  'LT_CHECKPOINT_CORRUPT',
  'LT_CHECKPOINT_TENSOR',
  'LT_TRAIN_NONFINITE',
  'LT_CLUSTER_ACCESS',
  'LT_CLUSTER_AUDIT',
  'LT_CLUSTER_BIT_CLASS',
  'LT_CLUSTER_CERTIFICATE',
  'LT_CLUSTER_CLOSED',
  'LT_CLUSTER_CONNECT',
  'LT_CLUSTER_CREDIT',
  'LT_CLUSTER_DONE',
  'LT_CLUSTER_DROPPED',
  'LT_CLUSTER_FINGERPRINT',
  'LT_CLUSTER_FOREIGN',
  'LT_CLUSTER_IMPOSSIBLE',
  'LT_CLUSTER_INEXACT',
  'LT_CLUSTER_LIMIT',
  'LT_CLUSTER_MANNERS',
  'LT_CLUSTER_LISTEN',
  'LT_CLUSTER_MALFORMED',
  'LT_CLUSTER_PAYLOAD',
  'LT_CLUSTER_SILENT',
  'LT_CLUSTER_SLOW',
  'LT_CLUSTER_TIMEOUT',
  'LT_CLUSTER_TOKEN',
  'LT_CLUSTER_VERSION',
  'LT_CLUSTER_WEIGHTS',
  'LT_CLUSTER_WORKER',
  'LT_CLUSTER_FRAME',
] as const;

/** The stable codes of `LantrainError`. */
export type ErrorCode = (typeof USAGE)[number] | (typeof FAILURES)[number];

const USAGE_CODES: ReadonlySet<string> = new Set(USAGE);
/** All codes. */
export const ERROR_CODES: ReadonlySet<string> = new Set([...USAGE, ...FAILURES]);

/** Whether a text from another process is one of these codes. */
export function isErrorCode(text: string): text is ErrorCode {
  return ERROR_CODES.has(text);
}
