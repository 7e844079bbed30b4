/** A program that uses lantrain as a library. tarball.package.test.ts compiles and runs it in another folder. */
import { type EndEvent, LantrainError, type RunEvent, type RunHooks, type TrainRequest, train } from 'lantrain';

const losses: number[] = [];
const hooks: RunHooks = {
  onEvent: (event: RunEvent) => {
    if (event.event === 'step') losses.push(event.loss);
  },
};
const request: TrainRequest = { preset: 'tiny', steps: 5, out: 'of a program' };
const run = await train(request, hooks);
const refused: unknown = await train({ ...request, steps: -1 }, hooks).catch((error: unknown) => error);
const code: string | undefined = refused instanceof LantrainError ? refused.code : undefined;
const path: EndEvent['path'] = run.path;
console.log(JSON.stringify({ path, digest: run.digest, steps: losses.length, code }));
