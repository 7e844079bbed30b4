import { parentPort } from 'node:worker_threads';
import { ReducerArena, type ReducerReply, type ReducerRequest } from './reducer-arena.js';

/** One thread of the reducer: does what it is asked in the order in which it is asked. */
const arenas = new Map<number, ReducerArena>();

parentPort?.on('message', (request: ReducerRequest) => {
  if (request.do === 'open') {
    arenas.set(request.arena, new ReducerArena(request.memory, request.sizes));
    return;
  }
  const arena = arenas.get(request.arena);
  if (arena === undefined) throw new Error(`no arena ${request.arena}`);
  if (request.do === 'clear') {
    arena.clear(request.slot);
    return;
  }
  const packed = new Uint8Array(request.buffer, request.offset, request.length);
  const reply: ReducerReply = { id: request.id, refused: arena.add(request.slot, packed, request.terms) };
  parentPort?.postMessage(reply);
});
