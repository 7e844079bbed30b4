import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { WebSocketServer } from 'ws';
import { onlyFromWorker } from '../../cluster/protocol/protocol.js';
import { Reducer } from '../../cluster/reducer/reducer.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import { LantrainError } from '../errors.js';
import { BUCKET_VALUES } from '../model/layout.js';
import { newToken } from '../net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../net/join-url.js';
import { Child, type Launch } from './child.js';
import { median, rounded } from './figures.js';

/** The version that both processes of this benchmark use. */
export const INTAKE_VERSION = 'bench';
export const INTAKE_BUCKETS = 4;

export interface Intake {
  /** GB/s through `ws` alone, and GB/s that are checked, unpacked and summed. Medians. */
  readonly wsGBs: number;
  readonly sumGBs: number;
  /** Median of the rounds' ratios. */
  readonly share: number;
  readonly frameBytes: number;
  readonly frames: number;
  readonly rounds: number;
}

/**
 * Measures how fast a coordinator takes in gradients from another process, over loopback without TLS: the transport
 * with its credits, the checksum, unpacking and the exact sum. For comparison, the same frames through `ws` alone are
 * thrown away. The two alternate, so that other load on the machine affects both.
 */
export async function measureIntake(rounds: number, frames: number): Promise<Intake> {
  const pairs: { ws: number; sum: number }[] = [];
  let frameBytes = 0;
  for (let i = 0; i < rounds; i++) {
    const ws = await throughWs(frames);
    const sum = await throughSums(frames);
    pairs.push({ ws: ws.rate, sum: sum.rate });
    frameBytes = ws.frameBytes;
  }
  return {
    wsGBs: rounded(median(pairs.map((p) => p.ws)), 3),
    sumGBs: rounded(median(pairs.map((p) => p.sum)), 3),
    share: rounded(median(pairs.map((p) => p.sum / p.ws)), 3),
    frameBytes,
    frames,
    rounds,
  };
}

interface MeasuredRate {
  /** GB/s from the arrival of the first frame to that of the last. */
  readonly rate: number;
  readonly frameBytes: number;
}

/** Counts finished frames. */
class Meter {
  readonly done: Promise<MeasuredRate>;
  #finish: (rate: MeasuredRate) => void = () => {};
  #began = 0;
  #seen = 0;

  constructor(readonly frames: number) {
    this.done = new Promise((finish) => {
      this.#finish = finish;
    });
  }

  count(frameBytes: number): void {
    if (this.#seen++ === 0) this.#began = performance.now();
    if (this.#seen < this.frames) return;
    const ms = performance.now() - this.#began;
    this.#finish({ rate: ((this.frames - 1) * frameBytes) / ms / 1e6, frameBytes });
  }
}

async function throughWs(frames: number): Promise<MeasuredRate> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false, maxPayload: 2 ** 26 });
  await new Promise((listening) => server.once('listening', listening));
  const meter = new Meter(frames);
  server.on('connection', (ws) => {
    ws.binaryType = 'nodebuffer';
    ws.on('message', (message: Buffer) => meter.count(message.length));
  });
  const { port } = server.address() as AddressInfo;
  return sending({ args: ['ws', `ws://127.0.0.1:${port}`, String(frames)] }, meter, async () => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
}

async function throughSums(frames: number): Promise<MeasuredRate> {
  const reducer = new Reducer(new Array(INTAKE_BUCKETS).fill(BUCKET_VALUES));
  const meter = new Meter(frames);
  const server = await ClusterServer.listen({
    host: '127.0.0.1',
    port: 0,
    token: newToken(),
    version: INTAKE_VERSION,
    onConnection: (connection) => {
      connection.frames = { incarnation: 1, buckets: INTAKE_BUCKETS, microBatches: 1, kinds: ['contribution'] };
      connection.onFrame = async (frame) => {
        const { payload, payloadChecksum: checksum } = frame;
        // As the coordinator does: a message in its own buffer is transferred to the summing thread.
        const owned = payload.buffer.byteLength === frame.bytes;
        const added = await reducer.add(frame.header.bucket, payload, 2 ** 10, { owned, checksum });
        if (added !== 'added')
          throw new LantrainError('LT_CLUSTER_PAYLOAD', `a frame of the bench is damaged: ${added.refused}`);
        meter.count(frame.bytes);
      };
      connection.onControl = onlyFromWorker({});
    },
  });
  const { token, ...url } = parseJoinUrl(server.joinUrl('127.0.0.1'));
  const args = ['sums', formatJoinUrl(url), String(frames)];
  return sending({ args, token }, meter, async () => {
    await server.close();
    await reducer.close();
  });
}

async function sending(
  launch: Pick<Launch, 'args' | 'token'>,
  meter: Meter,
  close: () => Promise<void>,
): Promise<MeasuredRate> {
  const child = new Child({ script: 'bench/intake-sender.js', core: undefined, ...launch });
  const failed = child.failed();
  failed.catch(() => {});
  try {
    return await Promise.race([meter.done, failed]);
  } finally {
    await child.kill();
    await close();
  }
}
