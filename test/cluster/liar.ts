import { decodeFrame, encodeFrame } from '../../cluster/protocol/frame.js';
import { MAX_MICRO_BATCHES } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';

/** Changes what a worker's connection sends; called once the worker has it. */
export type Tamper = (connection: WorkerConnection) => void;

/**
 * From step `from` on, flips the lowest bit of the last word of every contribution's sums: the same lie for all liars.
 */
export function liesFrom(from: number, onLie: (step: number) => void = () => {}): Tamper {
  return (connection) => {
    const send = connection.sendFrame.bind(connection);
    connection.sendFrame = (message) => {
      const context = { incarnation: 2 ** 31, buckets: 2 ** 16, microBatches: MAX_MICRO_BATCHES };
      const { header, payload } = decodeFrame(message, { ...context, kinds: ['contribution'] });
      if (header.step < from) return send(message);
      onLie(header.step);
      const lie = payload.slice();
      lie[lie.length - 4] ^= 1;
      return send(encodeFrame(header, lie));
    };
  };
}
