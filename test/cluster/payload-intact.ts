import { equalChecksums, payloadChecksum } from '../../cluster/exchange/checksum.js';
import type { Frame } from '../../cluster/protocol/frame.js';

/** Whether the payload has the sender's checksum. */
export function payloadIntact(frame: Pick<Frame, 'payload' | 'payloadChecksum'>): boolean {
  return equalChecksums(payloadChecksum(frame.payload), frame.payloadChecksum);
}
