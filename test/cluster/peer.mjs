/** A separate process for the transport's test: joins, sends frames of a given size and counts received ones. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const load = (path) => import(pathToFileURL(resolve('dist', path)).href);
const { parseJoinUrl } = await load('src/net/join-url.js');
const { encodeFrame, payloadIntact } = await load('cluster/protocol/frame.js');
const { onlyFromCoordinator } = await load('cluster/protocol/protocol.js');
const { microBatchSet } = await load('cluster/round/sets.js');
const { connect } = await load('cluster/transport/client.js');

const [url, count, payloadBytes] = process.argv.slice(2);
const parsed = parseJoinUrl(url);
const connection = await connect(parsed, { token: parsed.token, version: 'test' });
connection.frames = { incarnation: 1, buckets: 4, microBatches: 16, kinds: ['weights-whole'] };
let intact = 0;
connection.onFrame = (frame) => {
  if (payloadIntact(frame)) intact++;
  if (intact === Number(count)) connection.send({ type: 'join', name: String(intact), adapter: '' });
};
connection.onControl = onlyFromCoordinator({ stop: () => process.exit(0) });
connection.onClose = () => process.exit(1);
const address = { incarnation: 1, assignment: 1, step: 1, bucket: 0 };
const header = { kind: 'contribution', ...address, microBatches: microBatchSet([0]) };
const frame = encodeFrame(header, new Uint8Array(Number(payloadBytes)).fill(3));
await Promise.all(Array.from({ length: Number(count) }, () => connection.sendFrame(frame)));
