import { parentPort } from 'node:worker_threads';
import { ReducerArena, type ReducerReply, type ReducerRequest } from './reducer-arena.js';

/** One thread of the reducer: handles requests in order. */
const arenas = new Map<number, ReducerArena>();

parentPort?.on('message', (request: ReducerRequest) => {
  if ('memory' in request) {
    arenas.set(request.arena, new ReducerArena(request.memory, request.sizes));
    return;
  }
  const { id, slot, add } = request;
  const arena = arenas.get(request.arena);
  if (arena === undefined) throw new Error(`no arena ${request.arena}`);
  let refused: string | undefined;
  if (add) refused = arena.add(slot, new Uint8Array(add.buffer, add.offset, add.length), add.terms, add.checksum);
  else arena.clear(slot);
  const reply: ReducerReply = { id, refused };
  parentPort?.postMessage(reply);
});
