/**
 * Set-up, which `npm start`, `npm test` and `npm run lantrain` run first: dependencies, build, a usable WebGPU adapter.
 * `--build` stops after the build (`npm run build`). It changes and prints nothing where all is ready.
 *
 * An old Node must reach the version check, so the files of set-up use only syntax that Node 12 can parse: default
 * imports of Node's modules, no optional chaining, no top-level await. They import no installed packages.
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
 * Set-up for `launch.mjs`, which then runs lantrain in the same process. Ends the process with a message where set-up
 * fails.
 * @param needsAdapter whether a missing adapter ends the process. Otherwise an adapter is looked for only after other
 *   work, and a missing one is only reported, because not every command needs one
 */
export async function prepare(needsAdapter) {
  const restore = endInOrder();
  try {
    // A built installation may lack the dependencies that only development needs.
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
