import { isErrorCode, LantrainError } from '../errors.js';

/** The contents of a WebSocket close frame. */
export interface Closing {
  readonly code: number;
  readonly reason: string;
}

/** Close codes for a normal end and for our errors (RFC 6455, section 7.4.2: 4000 and up are private). */
const CLOSE_NORMAL = 1000;
const CLOSE_ERROR = 4000;
/** Bytes of a close frame besides its code. */
const REASON_BYTES = 123;

/** The close frame for an error. LT_CLUSTER_CLOSED is a normal end. */
export function closingOf({ code, message }: Pick<LantrainError, 'code' | 'message'>): Closing {
  if (code === 'LT_CLUSTER_CLOSED') return { code: CLOSE_NORMAL, reason: cutText(message) };
  return { code: CLOSE_ERROR, reason: cutText(`${code}: ${message}`) };
}

/** The error that the other side closed with. */
export function errorOf({ code, reason }: Closing): LantrainError {
  const [, name, message] = /^(LT_[A-Z_]+): (.*)$/s.exec(reason) ?? [];
  if (code === CLOSE_ERROR && name !== undefined && isErrorCode(name)) return new LantrainError(name, message);
  return new LantrainError('LT_CLUSTER_CLOSED', reason === '' ? 'the connection ended' : reason);
}

function cutText(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return bytes.length <= REASON_BYTES
    ? text
    : new TextDecoder().decode(bytes.subarray(0, REASON_BYTES - 3)).replace(/\ufffd+$/, '');
}
