import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { equalChecksums, payloadChecksum } from '../exchange/checksum.js';
import { ReducerArena } from './reducer-arena.js';
import type { DigestRequest, ReducerReply, ReducerRequest, SlotRequest } from './reducer-requests.js';

/** One thread of the reducer: handles requests in order. */
const arenas = new Map<number, ReducerArena>();

parentPort?.on('message', (request: ReducerRequest) => {
  if ('memory' in request) {
    arenas.set(request.arena, new ReducerArena(request.memory, request.slots));
    return;
  }
  const reply: ReducerReply =
    'digest' in request ? { id: request.id, digest: digestOf(request) } : { id: request.id, refused: handle(request) };
  parentPort?.postMessage(reply);
});

/** Returns why nothing was added. */
function handle({ arena: index, slot, work }: SlotRequest): string | undefined {
  const arena = arenas.get(index);
  if (arena === undefined) throw new Error(`no arena ${index}`);
  if (work.type === 'clear') arena.clear(slot);
  else if (work.type === 'grid') arena.setGrid(slot, work.bytes);
  else {
    const { buffer, offset, length, terms, checksum } = work.packed;
    return arena.add(slot, new Uint8Array(buffer, offset, length), terms, checksum, work.isFirst);
  }
  return undefined;
}

/** SHA-256 in hexadecimal; undefined where the bytes have another checksum. */
function digestOf({ digest, checksum }: DigestRequest): string | undefined {
  if (!equalChecksums(payloadChecksum(digest), checksum)) return undefined;
  return createHash('sha256').update(digest).digest('hex');
}
