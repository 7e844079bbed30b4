import { parentPort } from 'node:worker_threads';
import { LantrainError } from '../errors.js';
import { writeAndPrune } from './kept.js';
import type { SaveReply, SaveRequest } from './saver.js';
import { readShared } from './shared-state.js';

/** The thread of `Saver`: writes one checkpoint after another. */
parentPort?.on('message', ({ dir, keep, checkpoint, state }: SaveRequest) => {
  writeAndPrune(dir, { ...checkpoint, read: readShared(state) }, keep).then(answer, (error) =>
    answer({
      failure: error instanceof LantrainError ? { code: error.code, message: error.message } : { message: error.stack },
    }),
  );
});

function answer(reply: SaveReply): void {
  parentPort?.postMessage(reply);
}
