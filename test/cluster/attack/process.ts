/** The process of an attacker: runs the attacks that its parent requests, one at a time. */
import { setMaxListeners } from 'node:events';
import { constants, setPriority } from 'node:os';
import { EngineCache } from '../../../cluster/worker/engine-cache.js';
import type { JoinUrl } from '../../../src/net/join-url.js';
import { openGpu } from '../../../src/node/open-gpu.js';
import { loadShaders } from '../../../src/node/shaders.js';
import { Draw } from '../seeded.js';
import type { Attack } from './admission.js';
import { pause, type Told } from './attack-context.js';
import { COSTS } from './costs.js';
import { MEMBERS } from './members.js';
import { codeOf, STRANGERS } from './strangers.js';

export const ATTACKS = { ...MEMBERS, ...COSTS, ...STRANGERS } as const;
export type AttackName = keyof typeof ATTACKS;

export type ToAttacker =
  | {
      readonly type: 'start';
      readonly attack: AttackName;
      readonly target: JoinUrl & { readonly token: string };
      readonly teacher?: JoinUrl & { readonly token: string };
      readonly from: string;
      readonly name: string;
      readonly seed: number;
      /** Rejoins under a new name each time. */
      readonly renames: boolean;
      /** Does not rejoin after it was found out. */
      readonly once: boolean;
    }
  | { readonly type: 'stop' };

export type FromAttacker = Told | { readonly told: 'idle' };

const RETURN_MS = 250;

let engines: Promise<EngineCache> | undefined;
let stop: (() => Promise<void>) | undefined;

const tell = (told: FromAttacker) => void process.send?.(told);

function start(message: Extract<ToAttacker, { type: 'start' }>): void {
  const { attack, target, teacher, from, name, seed, renames, once } = message;
  const controller = new AbortController();
  const { signal } = controller;
  // Every socket is closed when the attack ends.
  setMaxListeners(0, signal);
  const draw = new Draw(seed);
  const run: Attack = ATTACKS[attack];
  const work = (async () => {
    for (let n = 1; !signal.aborted; n++) {
      try {
        const called = renames && n > 1 ? `${name}-${n}` : name;
        engines ??= openGpu().then((gpu) => new EngineCache(gpu, loadShaders()));
        const engineCache = () => engines as Promise<EngineCache>;
        await run({ target, teacher, from, name: called, draw, signal, tell, engines: engineCache });
      } catch (error) {
        if (signal.aborted) break;
        tell({ told: 'closed', code: codeOf(error) });
        if (once) break;
        await pause(RETURN_MS + draw.below(RETURN_MS));
      }
    }
  })();
  stop = async () => {
    controller.abort();
    await work;
    tell({ told: 'idle' });
  };
}

process.on('message', (message: ToAttacker) => {
  if (message.type === 'start') start(message);
  else void stop?.();
});
process.on('disconnect', () => process.exit(0));
// Low priority: the test measures what the coordinator loses by the attack, not by a busy processor.
setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
