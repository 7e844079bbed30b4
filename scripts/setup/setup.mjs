/**
 * Set-up, run by `npm start`, `npm test` and `npm run lantrain` before anything else: dependencies, build, a usable WebGPU
 * adapter. `--build` stops after the build (`npm run build`). What is in place already is left alone, in silence.
 *
 * An old Node must get as far as the version check, so the files of set-up keep to what Node 12 can parse: default
 * imports of Node's own modules, no optional chaining, no top-level await. They import nothing that has to be installed.
 */
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ensureAdapter } from './adapter.mjs';
import { build, built } from './build.mjs';
import { dependenciesInstalled, installDependencies } from './dependencies.mjs';
import { withLock } from './lock.mjs';
import { refuseNode } from './node-version.mjs';
import { endInOrder, Stop, tell } from './process.mjs';

/** @returns whether there was something to do. */
async function ensureBuilt() {
  const refusal = refuseNode(process.versions.node);
  if (refusal !== undefined) throw new Stop(refusal);
  if (dependenciesInstalled() && built()) return false;
  await withLock(async () => {
    if (!dependenciesInstalled()) await installDependencies();
    if (!built()) await build();
  });
  return true;
}

/**
 * For `launch.mjs`, which is lantrain itself afterwards: what it needs to run, in this process. Ends the process with one
 * message where that cannot be had.
 * @param needsAdapter whether a missing adapter is an end; else it is looked for only after other work, and lacked with
 *   a message: not every command needs one
 */
export async function prepare(needsAdapter) {
  const restore = endInOrder();
  try {
    // What only development needs may be left out of an installation that is built.
    const isReady = dependenciesInstalled(true) && built();
    const worked = isReady ? false : await ensureBuilt();
    if (needsAdapter) await ensureAdapter();
    else if (worked) await ensureAdapter().catch(tell);
  } catch (error) {
    tell(error);
    process.exit(1);
  }
  restore();
}

async function main(args) {
  await ensureBuilt();
  if (!args.includes('--build')) await ensureAdapter();
}

if (process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  endInOrder();
  main(process.argv.slice(2)).catch((error) => {
    tell(error);
    process.exit(1);
  });
}
