/** Attacks by holders of the token that are not admitted. They cost memory, time and connections of others. */

import { packLoss } from '../../../cluster/exchange/blocks.js';
import { encodeFrame, MAX_FRAME_BYTES } from '../../../cluster/protocol/frame.js';
import { microBatchSet } from '../../../cluster/round/sets.js';
import { encodeMessage } from '../../../cluster/transport/messages.js';
import { LantrainError } from '../../../src/errors.js';
import { type Attack, introduced, untilEnded } from './admission.js';
import { flood, pause } from './attack-context.js';

const MIB = 2 ** 20;
const POOL_BYTES = 256 * MIB;
/** Credit requests of a connection that may wait. */
const WANTS = 8;

/** Halved each time the coordinator refuses it as too much. */
let wantedBytes = POOL_BYTES / WANTS;

export const COSTS = {
  /** Asks for the whole receive pool, and sends a stale frame every 10 s. */
  credit: async (context) => {
    const { ws, welcome, ended } = await introduced(context);
    const { incarnation, buckets } = welcome;
    const address = { incarnation, assignment: 1, step: 1, bucket: buckets - 1 };
    const stale = encodeFrame({ kind: 'contribution', ...address, microBatches: microBatchSet([0]) }, packLoss(1n));
    const ask = () => {
      for (let i = 0; i < WANTS; i++) ws.send(encodeMessage({ type: 'want', bytes: wantedBytes }));
    };
    ask();
    context.tell({ told: 'begun' });
    const timer = setInterval(() => ws.send(stale), 10_000);
    try {
      await untilEnded(context, ended);
    } catch (error) {
      if (error instanceof LantrainError && error.code === 'LT_CLUSTER_CREDIT')
        wantedBytes = Math.max(4096, wantedBytes / 2);
      throw error;
    } finally {
      clearInterval(timer);
    }
  },

  /** Pings by message and never reads. */
  'ping-flood': async (context) => {
    const { ws, socket } = await introduced(context);
    ws.pause();
    context.tell({ told: 'begun' });
    await flood(context, socket, () => ws.send(encodeMessage({ type: 'ping', at: 1 })));
    if (!context.signal.aborted) throw new Error('hung up');
  },

  /** Sends pings of the WebSocket protocol with full payloads, and never reads. */
  'protocol-pings': async (context) => {
    const { ws, socket } = await introduced(context);
    ws.pause();
    context.tell({ told: 'begun' });
    const payload = Buffer.alloc(125, 1);
    await flood(context, socket, () => ws.ping(payload));
    if (!context.signal.aborted) throw new Error('hung up');
  },

  /** Joins and leaves in a loop, four at once. */
  rejoin: async (context) => {
    context.tell({ told: 'begun' });
    const loop = async () => {
      for (let i = 0; !context.signal.aborted; i++) {
        const { connection, socket } = await introduced(context);
        connection.send({ type: 'leave', reason: `again ${i}` });
        connection.close();
        socket.destroy();
      }
    };
    await Promise.all([loop(), loop(), loop(), loop()]);
  },

  /** Begins messages of the largest size and never ends them, on twelve connections. */
  'half-message': async (context) => {
    const hold = async () => {
      const { ws, ended } = await introduced(context);
      const part = Buffer.alloc(MIB / 4, 0x4c);
      const most = MAX_FRAME_BYTES - 2 * MIB;
      for (let sent = 0; sent < most && ws.readyState === ws.OPEN; sent += part.length) {
        ws.send(part, { fin: false });
        await pause(10);
      }
      context.tell({ told: 'begun' });
      const drip = setInterval(() => ws.readyState === ws.OPEN && ws.send(Buffer.alloc(1), { fin: false }), 500);
      await untilEnded(context, ended).finally(() => clearInterval(drip));
    };
    await Promise.all(Array.from({ length: 12 }, hold));
  },

  /** Sends frames of 12 MB without credit, on four connections. */
  'no-credit': async (context) => {
    const send = async () => {
      const { ws, ended } = await introduced(context);
      context.tell({ told: 'begun' });
      ws.send(Buffer.alloc(Math.min(12 * MIB, MAX_FRAME_BYTES), 0x4c));
      await untilEnded(context, ended);
    };
    await Promise.all(Array.from({ length: 4 }, send));
  },
} as const satisfies Record<string, Attack>;
