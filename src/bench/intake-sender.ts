/** The sending process of `intake.ts`: sends one packed bucket of gradients again and again. */
import { WebSocket } from 'ws';
import { packSums } from '../../cluster/exchange/blocks.js';
import { encodeFrame } from '../../cluster/protocol/frame.js';
import { onlyFromCoordinator } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import { connect } from '../../cluster/transport/client.js';
import { BUCKET_VALUES } from '../model/layout.js';
import { tokenFromEnvironment } from '../net/access.js';
import { parseJoinUrl } from '../net/join-url.js';
import { deriveKey, Stream, threefry } from '../util/random.js';
import { INTAKE_BUCKETS, INTAKE_VERSION } from './intake.js';

/** Limit of a socket's queue, as in the transport. */
const QUEUE_BYTES = 8 * 2 ** 20;
const IN_FLIGHT = 4;

/** Blocks of 1 to 5 bytes a value, 2.9 on average, as gradients have. */
const WIDTHS = [1, 3, 3, 3, 4, 3, 2, 4, 3, 3];

/** Values of each width, positive and negative, from one list of random words. */
function gradientLike(): Uint8Array {
  const key = deriveKey(1, Stream.probe);
  const low = new Uint32Array(BUCKET_VALUES);
  const high = new Uint32Array(BUCKET_VALUES);
  const words = Uint32Array.from({ length: 4096 }, (_, i) => threefry(key, i, 0)[0]);
  for (let i = 0; i < low.length; i++) {
    const width = WIDTHS[(i >> 8) % WIDTHS.length];
    const value = (words[(i * 31) & 4095] | 0) >> (32 - 8 * width);
    low[i] = value >>> 0;
    high[i] = value >> 31;
  }
  return packSums(low, high);
}

async function main([mode, url, count]: readonly string[]): Promise<void> {
  const frameOf = (bucket: number, payload: Uint8Array) => {
    const address = { incarnation: 1, assignment: 1, step: 1, bucket };
    return encodeFrame({ kind: 'contribution', ...address, microBatches: microBatchSet([0]) }, payload);
  };
  const payload = gradientLike();
  const frames = Array.from({ length: INTAKE_BUCKETS }, (_, bucket) => frameOf(bucket, payload));
  if (mode === 'ws') {
    const ws = new WebSocket(url, { perMessageDeflate: false, generateMask: (mask) => void mask.fill(0) });
    await new Promise((open) => ws.once('open', open));
    for (let i = 0; i < Number(count); i++) {
      const sent = new Promise((taken) => ws.send(frames[i % frames.length], { binary: true }, taken));
      if (ws.bufferedAmount >= QUEUE_BYTES) await sent;
    }
    await new Promise((closed) => ws.once('close', closed));
    return;
  }
  const connection = await connect(parseJoinUrl(url), {
    token: tokenFromEnvironment() ?? '',
    version: INTAKE_VERSION,
  });
  const closed = new Promise<void>((close) => {
    connection.onClose = () => close();
  });
  connection.onControl = onlyFromCoordinator({});
  const flying = new Set<Promise<void>>();
  for (let i = 0; i < Number(count); i++) {
    const message = frames[i % frames.length];
    const flight = connection.sendFrame(message).finally(() => flying.delete(flight));
    flying.add(flight);
    if (flying.size >= IN_FLIGHT) await Promise.race(flying);
  }
  await closed;
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  },
);
